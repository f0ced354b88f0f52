"""CAV-MAE's towers and the encoder's file."""

import pytest
import torch

from aai.audio import Sound
from aai.encoders.cavmae import CAVMAE, IMAGE_MEAN, IMAGE_STD, CAVMAEConfig, pool
from aai.encoders.cavmae_checkpoint import Published, encoder_of
from aai.errors import InputError
from bench.cavmae_decoder import towers_file


def noise(seconds, rate=16000, seed=0, channels=1):
    return Sound(
        0.1 * torch.randn(channels, int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate
    )


def test_features_are_the_mean_over_tokens(encoder):
    model = encoder.model
    fbanks, images = torch.randn(2, 96, 128), torch.randn(2, 3, 32, 32)
    assert model.forward_audio(fbanks).shape == (2, 8 * 6, 16)
    assert model.forward_image(images).shape == (2, 4, 16)
    assert torch.equal(pool(model.forward_audio(fbanks)), model.audio_features(fbanks))
    assert torch.equal(pool(model.see(model.visual_tokens(images))), model.visual_features(images))


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch(encoder):
    sounds = [noise(0.96, seed=1), noise(2.5, 44100, seed=2, channels=2), noise(0.05, 8000, seed=3)]
    together = encoder.embed(sounds)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(together[1:2], encoder.embed(sounds[1:2]), rtol=1e-4, atol=1e-5)


def test_loudness_reaches_the_embedding(encoder):
    sound = noise(0.96)
    quiet = Sound(sound.waveform * 0.05, sound.rate)
    assert not torch.allclose(encoder.embed([sound]), encoder.embed([quiet]), atol=1e-3)


def test_without_padding_only_the_patches_that_hold_sound_are_encoded(encoder):
    encoder.padding = "none"
    # 50 frames of the window's 96, that is three of its six columns of patches.
    short = noise(0.515)
    columns = torch.arange(8)[:, None] * 6 + torch.arange(3)
    whole = encoder.fbanks([torch.nn.functional.pad(short.waveform[0], (0, 8000))])
    with torch.no_grad():
        expected = encoder.model.audio_features(whole, columns.flatten()[None])
    f_a = encoder.embed([short], own_length=True)
    torch.testing.assert_close(f_a, expected, rtol=1e-3, atol=1e-3)
    silent = Sound(torch.cat([short.waveform, torch.zeros(1, 4000)], dim=1), short.rate)
    assert not torch.allclose(encoder.embed([silent], own_length=True), f_a, atol=1e-2)
    for seconds in (0.01, 0.1, 0.2):
        assert torch.isfinite(encoder.embed([noise(seconds)])).all()


def test_a_long_sound_is_the_mean_of_its_windows(encoder):
    sound = noise(2.88)
    parts = torch.cat([encoder.embed([sound.cut(start, 0.96)]) for start in (0, 0.96, 1.92)])
    expected = torch.nn.functional.normalize(parts.mean(0), dim=-1)
    torch.testing.assert_close(encoder.embed([sound])[0], expected, rtol=1e-4, atol=1e-5)


def cavmae_fbank(sound, config):
    """What CAV-MAE's towers are given of a sound (`src/dataloader.py`): the filter bank of all of it, padded
    with zeros or cut, then normalised."""
    kaldi = pytest.importorskip("torchaudio").compliance.kaldi
    waveform = sound.waveform - sound.waveform.mean()
    features = kaldi.fbank(
        waveform,
        htk_compat=True,
        sample_frequency=sound.rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=config.mel_bins,
        dither=0.0,
        frame_shift=10,
    )[: config.frames]
    padded = torch.nn.functional.pad(features, (0, 0, 0, config.frames - len(features)))
    return (padded - config.fbank_mean) / config.fbank_std


@pytest.mark.parametrize("seconds", [1, 4, 5, 10, 12.3])
def test_a_published_file_hears_clips_of_any_length_as_cavmae_does(seconds):
    torch.manual_seed(0)
    config = CAVMAEConfig(dim=16, depth_a=2, depth_v=1, heads=2, image_size=32)
    tensors = {k.removeprefix("module."): v for k, v in towers_file(CAVMAE(config)).items()}
    encoder = encoder_of(Published("audio_model.21.pth", tensors), config)
    sound = noise(seconds)
    expected = cavmae_fbank(sound, config)
    windows = encoder.windows(sound)
    assert len(windows) == 1
    # Bins without energy lie apart by what fp32 rounds.
    torch.testing.assert_close(encoder.fbanks(windows)[0], expected, rtol=0, atol=1e-3)
    with torch.no_grad():
        feature = torch.nn.functional.normalize(encoder.model.audio_features(expected[None]), dim=-1)
    torch.testing.assert_close(encoder.embed([sound]), feature, rtol=0, atol=1e-5)
    # Beside sounds of other lengths it is the same.
    together = encoder.embed([noise(2), sound, noise(23, seed=1)])
    torch.testing.assert_close(together[1:2], feature, rtol=0, atol=1e-5)


def test_a_sound_on_the_right_is_heard(encoder):
    left = noise(0.96).waveform
    right = Sound(torch.cat([torch.zeros_like(left), left]), 16000)
    silent = Sound(torch.zeros(2, 15360), 16000)
    torch.testing.assert_close(
        encoder.embed([right]), encoder.embed([Sound(left / 2, 16000)]), rtol=1e-4, atol=1e-5
    )
    assert torch.isfinite(encoder.embed([silent])).all()
    assert not torch.allclose(encoder.embed([right]), encoder.embed([silent]), atol=1e-3)


def test_no_sounds_give_no_rows(encoder):
    assert encoder.embed([]).shape == (0, 16)


def test_pictures_with_alpha_are_refused(encoder):
    with pytest.raises(InputError, match=r"\(1, 4, 32, 32\)"):
        encoder.embed_images(torch.rand(1, 4, 32, 32))


def test_pictures_of_any_size_are_seen(encoder):
    for shape in ((1, 3, 32, 32), (2, 3, 50, 90), (1, 3, 20, 24)):
        assert encoder.embed_images(torch.rand(shape)).shape == (shape[0], 16)


@pytest.mark.parametrize("height, width", [(480, 854), (33, 47), (47, 33), (100, 71), (20, 31), (32, 43)])
def test_pictures_are_resized_and_cut_as_by_torchvision(encoder, height, width):
    """854 pixels of 480 become 398 of 224, not 399; a middle that lies between two pixels goes to the even
    one."""
    transforms = pytest.importorskip("torchvision.transforms")
    size = encoder.model.config.image_size
    resized = transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.Lambda(lambda x: x.clamp(0, 1)),
            transforms.CenterCrop(size),
            transforms.Normalize(IMAGE_MEAN, IMAGE_STD),
        ]
    )
    pictures = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    (found,) = encoder.image_batches(pictures)
    torch.testing.assert_close(found, resized(pictures), rtol=0, atol=1e-5)


def test_a_pause_behind_a_sound_says_nothing():
    from aai.encoders.base import encode_sound, nearest_words
    from aai.soundworld.loaders import load_sound_encoder
    from aai.soundworld.sounds import unseen_sound

    ears, rain = load_sound_encoder(), unseen_sound("rain", 40)
    waveform = torch.cat([rain.waveform, torch.zeros(1, 15 * rain.rate)], dim=1)
    heard = encode_sound(ears, Sound(waveform, rain.rate))
    assert nearest_words(ears, heard.f_a[None], 1)[0].words[0][0] == "rain" and heard.is_known
