"""Clips as examples: what is encoded of them, and what no adapter can learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aai.adapt.examples import check, draws, from_clips
from aai.adapt.universal_settings import AdapterSettings
from aai.adapt.universal_train import AdapterRun, train_adapter
from aai.audio import Sound
from aai.audio import save as save_sound
from aai.data.clips import File, scan
from aai.distributed import Distributed
from aai.encoders.base import Inaudible
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.errors import InputError
from aai.soundworld.dataset import write


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return scan(write(tmp_path_factory.mktemp("data") / "some", each=1, seconds=0.5))


@pytest.fixture(scope="module")
def ear():
    torch.manual_seed(0)
    config = CAVMAEConfig(
        dim=32, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16, seconds=0.64
    )
    return CAVMAEEncoder(
        CAVMAE(config).requires_grad_(False), ["rain", "dog", "fire", "sea"], torch.randn(4, 32)
    )


SETTINGS = AdapterSettings(steps=3, batch=4)


def test_what_a_training_draws_is_encoded_and_no_more(clips, ear, model):
    ticks = []
    made = from_clips(clips, ear, model, SETTINGS, 16, name="some", callback=lambda *done: ticks.append(done))
    steps = draws([1] * len(clips), SETTINGS)
    drawn = {pair for _ in range(3) for pair in next(steps)}
    assert set(made.latents) == drawn and len(drawn) == 12
    # All sounds of a small library are heard, for their mean.
    assert set(made.f_a) == set(range(len(clips))) and ticks[-1] == (len(clips) + 12, len(clips) + 12)
    (i, _), latent = next(iter(made.latents.items()))
    torch.testing.assert_close(latent, model.encode_images(clips[i].load_picture(0, 16)[None])[0])
    torch.testing.assert_close(made.f_a[i], ear.embed([clips[i].load_sound()])[0])
    assert made.described == "some: 20 sounds of 20 labels, with pictures" and made.encoder_name == ear.name


def test_processes_encode_their_own_pictures_and_begin_alike(clips, ear, model):
    whole = from_clips(clips, ear, model, SETTINGS, 16)
    parts = [
        from_clips(clips, ear, model, SETTINGS, 16, distributed=Distributed(rank, 2)) for rank in range(2)
    ]
    assert {**parts[0].latents, **parts[1].latents}.keys() == whole.latents.keys()
    assert not parts[0].latents.keys() & parts[1].latents.keys()
    assert list(parts[0].f_a) == list(parts[1].f_a) == list(whole.f_a)
    assert parts[0].digest == whole.digest


def test_a_longer_or_resumed_training_begins_with_the_same_sounds(clips, ear, model):
    short, long = (from_clips(clips, ear, model, replace(SETTINGS, steps=n), 16) for n in (3, 5))
    assert list(short.f_a) == list(long.f_a) and short.digest == long.digest
    stopped = train_adapter(AdapterRun(model, short, SETTINGS))
    rest = from_clips(clips, ear, model, replace(SETTINGS, steps=5), 16, resume=stopped)
    assert list(rest.f_a) == list(long.f_a)
    assert rest.latents.keys() == long.latents.keys() - short.latents.keys()
    assert from_clips(clips, ear, model, SETTINGS, 24).digest != short.digest


def test_what_needs_no_encoding_is_told_before_it(clips, ear, model):
    stopped = train_adapter(AdapterRun(model, from_clips(clips, ear, model, SETTINGS, 16), SETTINGS))
    # Whatever is read of these is an error.
    gone = [replace(clip, sound=File(Path("gone.wav"))) for clip in clips]
    for says, size, changes, state in (
        ("'rain' has no \\* for the sound", 16, {"template": "rain"}, stopped),
        ("begun with seed 0, not 9", 16, {"seed": 9}, stopped),
        ("begun with other data", 24, {}, stopped),
        ("begun with the sound encoder", 16, {}, replace(stopped, encoder="beef")),
        ("begun with .* a picture model of", 16, {}, replace(stopped, model="beef")),
        ("holds no training's state", 16, {}, replace(stopped, training={})),
        ("3 steps behind it already: ask for more than 3", 16, {"steps": 3}, stopped),
        ("There is no file 'gone.wav'", 16, {}, stopped),
    ):
        with pytest.raises(InputError, match=says):
            from_clips(gone, ear, model, replace(SETTINGS, **{"steps": 5, **changes}), size, resume=state)


def test_sounds_without_anything_to_hear_are_named(clips, ear, model, tmp_path, caplog):
    silent, short = tmp_path / "silent.wav", tmp_path / "short.wav"
    save_sound(Sound(torch.zeros(1, 16000), 16000), silent)
    save_sound(Sound(torch.randn(1, 800) * 0.1, 16000), short)
    mixed = [replace(clips[0], id="a", sound=File(silent)), replace(clips[1], id="b", sound=File(short))]
    with pytest.raises(Inaudible) as raised:
        from_clips([*mixed, *clips[2:]], ear, model, SETTINGS, 16)
    told = f"{raised.value} {caplog.text}"
    assert "'a' is silent" in told and "'b' lasts 0.05 s" in told


def test_without_pictures_only_sounds_are_encoded(clips, ear, model):
    bare = [replace(clip, pictures=()) for clip in clips]
    made = from_clips(bare, ear, model, SETTINGS)
    assert not made.latents and "by their labels alone" in made.described


def test_what_no_adapter_can_learn_from_is_told():
    with pytest.raises(InputError, match="'mine' holds 1 sound: .* token is trained"):
        check(["rain"], [1], "'mine'")
    with pytest.raises(InputError, match="'mine' holds 1 sounds without pictures .*of 'dog'"):
        check(["rain", "dog"], [2, 0], "'mine'")
