"""SoundWorld's parts at work: autoencoder, text tower, captions, and a few real training steps of each."""

import numpy as np
import pytest
import torch

from aai.encoders.cavmae import CAVMAE
from aai.soundworld import library
from aai.soundworld import pictures as pictures_
from aai.soundworld.build import diffusion, sound_encoder
from aai.soundworld.build.oracle import train_oracle
from aai.soundworld.build.text import build_tokenizer
from aai.soundworld.captions import LEVELS, caption, corpus, level, phrase, random_caption
from aai.soundworld.models import PatchAutoencoder, build_unet
from aai.soundworld.oracle import Oracle
from aai.soundworld.pictures import event_mask
from aai.soundworld.text import CaptionEncoder, as_word, build_text_tower, load_tokenizer, scale_of
from aai.soundworld.world import EVENTS, SCENES


@pytest.fixture(scope="module")
def scenes():
    return pictures_.random_scenes(60, seed=3)


@pytest.fixture(scope="module")
def pictures(scenes):
    return pictures_.draw_all(scenes, workers=1)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(0)
    return CaptionEncoder(tokenizer, build_text_tower(tokenizer).eval().requires_grad_(False))


@pytest.fixture(scope="module")
def autoencoder(pictures):
    made = PatchAutoencoder()
    patches = (pictures.float() / 127.5 - 1).unfold(2, 8, 8).unfold(3, 8, 8)
    kept = made.fit_linear(patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 192), whitening=0.6)
    assert kept > 0.93
    return made


def test_most_words_of_soundworld_are_one_piece_and_none_is_unknown(reader):
    words = list(dict.fromkeys(corpus()))
    pieces = [reader.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert np.mean([len(p) == 1 for p in pieces]) > 0.8
    for word, ids in zip(words, pieces):
        assert reader.tokenizer.decode(ids).strip() == word
    assert len(reader.tokenizer("xylophone", add_special_tokens=False)["input_ids"]) > 1


def test_a_caption_says_what_is_drawn():
    rng = np.random.default_rng(0)
    for _ in range(200):
        told = caption("forest", "dog", 0.9, rng, starred=0.5)
        assert "dog" in told.plain
        assert ("*" in told.text) == told.starred
        assert told.scene in (None, "forest") and (told.scene is None) == ("forest" not in told.plain)
    assert phrase("rain", 0.95) == "extreme rain" and phrase("dog", 0.95) == "an extreme dog"
    assert [level(i) for i in (0.05, 0.25, 0.5, 0.75, 1.0)] == list(range(len(LEVELS)))
    assert {random_caption(rng).event for _ in range(300)} == {None, *EVENTS}


def test_a_starred_caption_reads_the_word_that_stands_there(reader):
    words = as_word(torch.randn(2, 192), scale_of(reader.model))
    torch.testing.assert_close(words.norm(dim=-1), torch.full((2,), scale_of(reader.model)))
    texts = ["a photo of *", "a photo of *"]
    states, sentences = reader.states(texts, words, length=77)
    assert states.shape == (2, 77, 192)
    star = reader.tokenizer(texts[0])["input_ids"].index(reader.star)
    torch.testing.assert_close(states[0, :star], states[1, :star])
    assert not torch.allclose(sentences[0], sentences[1], atol=1e-3)


def test_the_autoencoder_brings_pictures_back(autoencoder, pictures):
    images = pictures[:8].float() / 127.5 - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (8, 32, 16, 16)
    assert 0.5 < latents.std() < 2
    assert (autoencoder.decode(latents, refine=False) - images).abs().mean() < 0.12
    torch.testing.assert_close(autoencoder.decode(latents), autoencoder.decode(latents, refine=False))
    assert autoencoder.decode(torch.randn(1, 32, 8, 24)).shape == (1, 3, 64, 192)


def test_refining_takes_error_away(autoencoder, pictures):
    import copy

    unet, states = build_unet().requires_grad_(False), torch.zeros(len(pictures), 1, 77, 192)
    # A new U-Net guesses next to nothing: its latents are the noisy ones, less bright.
    refined = copy.deepcopy(autoencoder)
    assert diffusion.refine_autoencoder(refined, pictures, unet, states, steps=60, batch=8) > 0
    images = pictures[:8].float() / 127.5 - 1
    assert (refined.decode(autoencoder.encode(images)) - images).abs().mean() < 0.12


def test_the_unet_trains_resumes_and_averages(autoencoder, pictures, scenes, reader, tmp_path):
    latents = diffusion.encode_pictures(autoencoder, pictures)
    states = diffusion.caption_states(reader, scenes, 1, seed=0)
    empty = reader.states([""], length=77)[0][0]
    steps = []

    def report(step, spent, loss):
        assert np.isfinite(loss)
        steps.append(step)
        if step in (2, 4):
            raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            diffusion.train_unet(latents, states, empty, tmp_path, minutes=60, batch=2, report=report)
        assert not list(tmp_path.glob("*.part"))
    assert steps == [1, 2, 3, 4]
    made = diffusion.train_unet(latents, states, empty, tmp_path, minutes=0)
    saved = torch.load(tmp_path / "unet.ckpt", weights_only=True)
    name = "conv_in.weight"
    torch.testing.assert_close(made.state_dict()[name], saved["average"][name])
    assert not torch.equal(saved["average"][name], saved["model"][name])


def test_the_oracle_learns_to_see(pictures, scenes):
    masks = torch.stack(
        [
            torch.from_numpy(event_mask(*row, 64))
            for row in zip(scenes.scene, scenes.event, scenes.intensity, scenes.seed)
        ]
    )
    events = torch.tensor([len(EVENTS) if e is None else EVENTS.index(e) for e in scenes.event])
    places = torch.tensor([SCENES.index(s) for s in scenes.scene])
    losses = []
    oracle = train_oracle(
        pictures,
        masks,
        events,
        places,
        torch.tensor(scenes.intensity),
        steps=50,
        batch=16,
        report=lambda step, loss: losses.append(loss),
    )
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    grades = oracle.grade(torch.rand(2, 3, 96, 160))
    assert len(grades.events) == 2 and grades.masks.shape == (2, 64, 64)
    assert all(0 <= i <= 1 for i in grades.intensities)
    assert isinstance(oracle, Oracle)


def test_hearing_trains_on_sounds_of_every_loudness(reader):
    torch.manual_seed(0)
    clips = sound_encoder.Clips(
        torch.randn(20, 512, 128).half() - 6, torch.arange(20) % 10, torch.full((20,), -25.0)
    )
    text = sound_encoder.level_vectors(reader)
    assert text.shape == (10, 5, 192)
    visual_labels = torch.arange(50).repeat(2)
    source = sound_encoder.batches(clips, clips, text, torch.randn(100, 192), visual_labels)
    pairs = source(torch.Generator().manual_seed(0), 30)
    assert pairs.fbanks.shape == (30, 512, 128) and torch.isfinite(pairs.fbanks).all()
    torch.testing.assert_close(pairs.f_t, text.flatten(0, 1)[pairs.labels])
    assert len(pairs.labels.unique()) > 10
    model = CAVMAE(sound_encoder.CONFIG)
    before = model.blocks_a[0].attn.qkv.weight.clone()
    sound_encoder.train_hearing(model, source, steps=2, rate=1e-3, keep=0.4, batch=4)
    assert not torch.equal(before, model.blocks_a[0].attn.qkv.weight)


def test_the_library_is_drawn_without_other_processes(monkeypatch):
    """Windows has no fork, and a server of many threads is not to be forked."""
    import multiprocessing

    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: pytest.fail(f"{kind} was asked for"))
    library.library_pictures.cache_clear()
    drawn = library.library_pictures(3)
    assert drawn.shape == (3, 3, 128, 128) and drawn.dtype == torch.uint8
