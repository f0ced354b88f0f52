"""Recordings taken apart by SoundWorld's encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from aai.audio import Sound, loudness
from aai.encoders.apart import LONGEST, splits, take_apart
from aai.encoders.bridged_clap import Bridge, BridgedCLAP
from aai.encoders.clap import load_folder
from aai.errors import InputError
from aai.soundworld.evaluate.hearing import mixed
from aai.soundworld.loaders import load_sound_encoder
from aai.soundworld.sounds import at_once, unseen_sound


@pytest.fixture(scope="module")
def world():
    return load_sound_encoder()


def test_two_at_once_are_named_measured_and_add_up(world):
    sound, (louder, quieter) = mixed("sea waves", "dog", 4.0, 11)
    parts = {part.word: part for part in take_apart(world, sound, 2, "street.wav")}
    assert set(parts) == {"sea waves", "a dog"}
    assert parts["sea waves"].embedding.loudness == pytest.approx(louder, abs=3)
    assert parts["a dog"].embedding.loudness == pytest.approx(quieter, abs=3)
    assert sum(part.share for part in parts.values()) == pytest.approx(1)
    assert parts["sea waves"].share > parts["a dog"].share
    assert parts["a dog"].embedding.sound == "street.wav, a dog"
    assert parts["sea waves"].embedding.hash != parts["a dog"].embedding.hash
    whole = sum(part.sound.waveform for part in parts.values())
    assert_close(whole[:, 1000:-1000], sound.waveform[:, 1000:-1000], atol=1e-4, rtol=0)
    f_a = parts["a dog"].embedding.f_a
    assert world.labels[int((world.label_vectors @ f_a).argmax())] == "a dog"


def test_one_after_the_other_are_two(world):
    first, second = unseen_sound("sea waves", 40, 0.6), unseen_sound("rooster", 41, 0.6)
    sequence = torch.cat([first.waveform[:, :40000], second.waveform[:, :40000]], dim=1)
    found = {part.word: part for part in take_apart(world, Sound(sequence, 16000), 2)}
    assert set(found) == {"sea waves", "a rooster"}
    rooster = found["a rooster"].sound.waveform.square()
    assert rooster[:, 40000:].sum() > 3 * rooster[:, :40000].sum()


def test_one_sound_comes_back_whole_and_so_do_two_of_a_kind(world):
    alone = unseen_sound("helicopter", 5, 0.7)
    twice = Sound(0.5 * (alone.waveform + unseen_sound("helicopter", 6, 0.7).waveform), 16000)
    silence = Sound(torch.cat([alone.waveform, torch.zeros(1, 16000)], dim=1), 16000)
    for sound in (alone, twice, silence):
        (part,) = take_apart(world, sound, 3)
        assert (part.word, part.share) == ("a helicopter", 1.0)
        assert part.embedding.loudness == loudness(sound)


def test_sounds_too_faint_to_be_apart_come_back_as_one(world):
    both = at_once(unseen_sound("sea waves", 3, 0.6), unseen_sound("rooster", 4, 0.6), 0.0)
    assert len(take_apart(world, both, 2)) == 2
    faint = replace(both, waveform=both.waveform * 10 ** ((-69 - loudness(both)) / 20))
    (part,) = take_apart(world, faint, 2)
    assert part.share == 1 and torch.equal(part.sound.waveform, faint.waveform)


def test_channels_and_rates_are_kept_as_the_encoder_hears_them(world):
    sound, _ = mixed("wind", "rooster", 3.6, 60)
    stereo = replace(sound, waveform=torch.cat([sound.waveform, 0.2 * sound.waveform]))
    parts = take_apart(world, stereo.resample(44100), 2)
    assert {part.word for part in parts} == {"wind", "a rooster"}
    assert all(part.sound.waveform.shape[0] == 2 and part.sound.rate == 16000 for part in parts)


def test_an_encoder_without_presence_goes_by_its_splits(world, monkeypatch):
    monkeypatch.setattr(world, "presence", None)
    sound, _ = mixed("rain", "rooster", 2.0, 3)
    assert {part.word for part in take_apart(world, sound, 2)} == {"rain", "a rooster"}


def test_a_bridged_clap_goes_by_its_splits_too(clap_folder):
    clap, _ = load_folder(clap_folder)
    bridge = Bridge(clap.dim, 8)
    bridge.weight.normal_(generator=torch.Generator().manual_seed(0))
    bridge.stretch.fill_(1.0)
    bridged = BridgedCLAP(clap, bridge, ["rain", "a dog"], torch.eye(2, 8))
    assert bridged.presence is None and clap.presence is None
    parts = take_apart(bridged, mixed("rain", "rooster", 2.0, 3)[0], 2)
    assert {part.word for part in parts} <= {"rain", "a dog"}
    assert sum(part.share for part in parts) == pytest.approx(1)


def test_splits_share_a_spectrogram_out():
    wave = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    masks, spectrum = splits(wave, 16000)
    assert masks.shape[1:] == spectrum.shape and masks.min() >= 0 and masks.max() <= 1 + 1e-5
    assert_close(masks[0] + masks[1], torch.ones_like(masks[0]), atol=1e-4, rtol=0)
    assert_close(masks[-1] + masks[-2], torch.ones_like(masks[0]), atol=1e-4, rtol=0)
    # Two tones, one after the other, are two parts.
    t = torch.arange(16000) / 16000
    tones = torch.cat([torch.sin(2 * torch.pi * 300 * t), torch.sin(2 * torch.pi * 3000 * t)])
    masks, spectrum = splits(tones, 16000)
    kept = (masks[0] * spectrum.abs()).square()
    half = kept.shape[1] // 2
    shares = sorted([float(kept[:, :half].sum() / kept.sum()), float(kept[:, half:].sum() / kept.sum())])
    assert shares[1] > 0.95


def test_bad_input_is_one_sentence(world):
    sound = unseen_sound("rain", 1, 0.5)
    with pytest.raises(InputError, match="ask for 1 to 3"):
        take_apart(world, sound, 5)
    long = Sound(0.1 * torch.randn(1, int((LONGEST + 1) * 16000)), 16000)
    with pytest.raises(InputError, match="lasts 31 s, too long to be taken apart"):
        take_apart(world, long)
    with pytest.raises(InputError, match="is silent"):
        take_apart(world, Sound(torch.zeros(1, 16000), 16000))


def test_an_encoder_without_words_is_refused(encoder):
    encoder.labels = []
    with pytest.raises(InputError, match="knows no words"):
        take_apart(encoder, Sound(0.1 * torch.randn(1, 16000), 16000))
