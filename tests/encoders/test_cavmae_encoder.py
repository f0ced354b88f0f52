"""CAV-MAE's towers and the encoder's file."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aai.audio import Sound
from aai.encoders import base, cavmae_encoder, loaders
from aai.encoders.cavmae import CAVMAE, IMAGE_MEAN, IMAGE_STD, CAVMAEConfig, pool
from aai.errors import InputError

TINY = CAVMAEConfig(dim=16, depth_a=2, depth_v=1, heads=2, frames=96, image_size=32, patch=16, seconds=0.96)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return cavmae_encoder.CAVMAEEncoder(
        CAVMAE(TINY), ["rain", "dog", "clock"], torch.randn(3, 16), name="tiny"
    )


def noise(seconds, rate=16000, seed=0, channels=1):
    return Sound(
        0.1 * torch.randn(channels, int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate
    )


def test_published_sizes_give_the_published_parameters():
    with torch.device("meta"):
        model = CAVMAE(CAVMAEConfig())
    audio = sum(p.numel() for p in model.audio_parameters())
    # 85.72 M less the norms that only the other modality or the joint pass uses.
    assert 85.5e6 < audio < 86.0e6
    keys = model.state_dict().keys()
    assert {
        "patch_embed_a.proj.weight",
        "blocks_a.10.norm1_v.bias",
        "blocks_u.0.attn.qkv.weight",
        "norm.weight",
    } <= set(keys)
    assert model.pos_embed_a.shape == (1, 512, 768) and model.pos_embed_v.shape == (1, 196, 768)


def test_patches_are_read_frequency_first():
    model = CAVMAE(TINY)
    fbanks = torch.zeros(1, 96, 128)
    fbanks[0, 16:32, 32:48] = 1.0
    tokens = model.patch_embed_a(fbanks.transpose(1, 2)[:, None])[0]
    different = (tokens - tokens[0]).abs().sum(-1).nonzero()[:, 0].tolist()
    assert different == [2 * 6 + 1]


def test_the_two_copies_of_the_shared_block_part(encoder):
    model = encoder.model
    images, fbanks = torch.randn(2, 3, 32, 32), torch.randn(2, 96, 128)
    seen, heard = model.visual_features(images), model.audio_features(fbanks)
    with torch.no_grad():
        model.blocks_u[0].mlp.fc2.bias.add_(1.0)
    assert torch.equal(model.visual_features(images), seen)
    assert not torch.equal(model.audio_features(fbanks), heard)
    assert len(list(CAVMAE(TINY, share_unified=True).parameters())) < len(list(model.parameters()))


def published(model):
    """The model's weights as the public files name them: one shared block, a prefix, a decoder's parts."""
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks_u_v.")}
    kept |= {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    return {f"module.{k}": v for k, v in kept.items()}


def test_a_published_file_fills_both_copies_of_the_shared_block(encoder):
    model = CAVMAE(TINY).eval()
    model.load_published(published(encoder.model))
    for copy in (model.blocks_u, model.blocks_u_v):
        assert torch.equal(copy[0].attn.qkv.weight, encoder.model.blocks_u[0].attn.qkv.weight)
    assert model.blocks_u[0].attn.qkv.weight is not model.blocks_u_v[0].attn.qkv.weight
    fbanks = torch.randn(2, 96, 128)
    assert torch.equal(model.audio_features(fbanks), encoder.model.audio_features(fbanks))
    CAVMAE(TINY, share_unified=True).load_published(published(encoder.model))


def test_a_published_file_that_lacks_weights_is_refused(encoder):
    whole = published(encoder.model)
    lacking = {k: v for k, v in whole.items() if "blocks_v" not in k}
    other_size = whole | {"module.pos_embed_a": torch.zeros(1, 7, 16)}
    unknown = whole | {"module.text_projection": torch.zeros(1)}
    for tensors, word in ((lacking, "lacks"), (other_size, "other sizes"), (unknown, "unknown")):
        with pytest.raises(InputError, match=rf"mine\.pth.*{word}"):
            CAVMAE(TINY).load_published(tensors, "mine.pth")


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


def test_a_long_sound_is_the_mean_of_its_windows(encoder):
    sound = noise(2.88)
    parts = torch.cat([encoder.embed([sound.cut(start, 0.96)]) for start in (0, 0.96, 1.92)])
    expected = torch.nn.functional.normalize(parts.mean(0), dim=-1)
    torch.testing.assert_close(encoder.embed([sound])[0], expected, rtol=1e-4, atol=1e-5)


def test_the_first_window_alone_can_be_heard(encoder):
    sound = noise(2.88)
    first = encoder.embed([sound], first_window=True)
    torch.testing.assert_close(first, encoder.embed([sound.cut(0, 0.96)]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first, encoder.embed_waveforms(sound.waveform), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, encoder.embed([sound]), atol=1e-3)


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


def test_nearest_words_are_sorted_and_add_up(encoder):
    (words,) = base.nearest_words(encoder, encoder.label_vectors[1:2], k=3)
    assert words[0][0] == "dog"
    assert sum(score for _, score in words) == pytest.approx(1)
    assert [s for _, s in words] == sorted((s for _, s in words), reverse=True)


def test_what_is_heard_keeps_its_length(encoder):
    """Eq. 6 to the letter adds f_a as the encoder gives it: the mean over tokens, before it is brought to
    length one."""
    sound = noise(encoder.seconds)
    with torch.no_grad():
        expected = encoder.model.audio_features(encoder.fbanks(encoder.windows(sound)))[0]
    assert abs(expected.norm() - 1) > 0.5
    torch.testing.assert_close(base.encode_sound(encoder, sound).f_a, expected)
    torch.testing.assert_close(encoder.embed([sound])[0], expected / expected.norm())
    longer = noise(2.5 * encoder.seconds)
    with torch.no_grad():
        each = encoder.model.audio_features(encoder.fbanks(encoder.windows(longer)))
    f_a = base.encode_sound(encoder, longer).f_a
    assert len(each) == 3 and f_a.norm() == pytest.approx(each.norm(dim=-1).mean().item(), rel=1e-5)
    torch.testing.assert_close(f_a / f_a.norm(), encoder.embed([longer])[0])


def test_what_is_heard_carries_the_encoders_words(encoder):
    heard = base.encode_sound(encoder, noise(1))
    assert heard.labels == ["rain", "dog", "clock"] and heard.labels is not encoder.labels
    assert torch.equal(heard.label_vectors, encoder.label_vectors)


def test_an_encoder_that_is_not_aligned_has_no_words():
    raw = cavmae_encoder.CAVMAEEncoder(CAVMAE(TINY), [], torch.zeros(0, 16), name="raw")
    heard = base.encode_sound(raw, noise(1))
    assert heard.labels == [] and heard.label_vectors.shape == (0, 16)
    assert base.nearest_words(raw, heard.f_a[None].expand(2, -1)) == [[], []]


def test_a_file_brings_the_encoder_back(encoder, tmp_path):
    loaders.save(encoder, tmp_path / "tiny.safetensors", dtype=torch.float32, made_by="a test")
    again = loaders.load(tmp_path / "tiny.safetensors")
    assert (again.labels, again.name, again.model.config) == (encoder.labels, "tiny", TINY)
    torch.testing.assert_close(again.embed([noise(1)]), encoder.embed([noise(1)]))
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_what_is_no_encoder_is_refused_by_name(encoder, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        loaders.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04not weights")
    with pytest.raises(InputError, match=r"pickle\.safetensors"):
        loaders.load(tmp_path / "pickle.safetensors")
    save_file({"x": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match=r"other\.safetensors"):
        loaders.load(tmp_path / "other.safetensors")
    loaders.save(encoder, tmp_path / "whole.safetensors")
    with safe_open(str(tmp_path / "whole.safetensors"), "pt") as file:
        metadata = file.metadata()
        tensors = {k: file.get_tensor(k) for k in file.keys() if "blocks_u.0.attn" not in k}
    save_file(tensors, str(tmp_path / "part.safetensors"), metadata)
    with pytest.raises(InputError, match=r"part\.safetensors.*lacks"):
        loaders.load(tmp_path / "part.safetensors")


def test_settings_that_do_not_fit_are_refused_by_name(encoder, tmp_path):
    loaders.save(encoder, tmp_path / "whole.safetensors")
    with safe_open(str(tmp_path / "whole.safetensors"), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for changed, words in (
        ({"config": '{"dim": 16, "colour": 3}'}, "settings"),
        ({"config": "{"}, "settings"),
        ({"labels": '["rain"]'}, "1 labels"),
        ({"config": metadata["config"].replace('"frames": 96', '"frames": 64')}, "other sizes"),
    ):
        save_file(tensors, str(tmp_path / "odd.safetensors"), metadata | changed)
        with pytest.raises(InputError, match=rf"odd\.safetensors.*{words}"):
            loaders.load(tmp_path / "odd.safetensors")


def test_an_encoder_with_one_shared_block_is_saved_as_two(tmp_path):
    torch.manual_seed(0)
    shared = cavmae_encoder.CAVMAEEncoder(CAVMAE(TINY, share_unified=True), ["rain"], torch.randn(1, 16))
    loaders.save(shared, tmp_path / "shared.safetensors", dtype=torch.float32)
    again = loaders.load(tmp_path / "shared.safetensors")
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again.embed_images(images), shared.embed_images(images))
    assert again.model.blocks_u_v[0] is not again.model.blocks_u[0]


def test_a_folder_that_takes_nothing_gives_a_sentence(encoder, tmp_path):
    with pytest.raises(InputError, match="cannot be saved"):
        loaders.save(encoder, tmp_path / "missing" / "tiny.safetensors")


@pytest.mark.parametrize(("samples", "says"), [(800, "0.05 s"), (16000, "silent")])
def test_what_cannot_be_heard_gets_a_sentence(encoder, samples, says):
    with pytest.raises(InputError, match=says):
        base.encode_sound(encoder, Sound(torch.zeros(1, samples), 16000), "a.wav")
