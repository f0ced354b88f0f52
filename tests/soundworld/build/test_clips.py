"""What a training step makes of sounds: crops, mixtures, levels, and the patches that are encoded."""

import math

import pytest
import torch

from aai.audio import loudness
from aai.soundworld.build import clips
from aai.soundworld.build.clips import FLOOR, OUTSIDE, Clip, Mixer, energies_of, power
from aai.soundworld.build.sound_encoder import CONFIG, nepers
from aai.soundworld.captions import LEVELS
from aai.soundworld.outside import synthesize_outside
from aai.soundworld.sounds import synthesize
from aai.soundworld.world import EVENTS


@pytest.fixture(scope="module")
def mixer():
    known = [
        Clip(energies_of(sound), number, loudness(sound), "synthesized")
        for number, event in enumerate(EVENTS)
        for sound in [synthesize(event, 0.5, 3, 2.0)]
    ]
    other = synthesize_outside("bells", 1, seconds=2.0)
    return Mixer([*known, Clip(energies_of(other), OUTSIDE, loudness(other), "bells")], [])


def random(seed=0):
    return clips._Random(torch.Generator().manual_seed(seed))


def test_a_batch_is_consistent(mixer):
    heard = mixer.batch(torch.Generator().manual_seed(0), 64, 32)
    assert heard.fbanks.shape == (64, CONFIG.frames, CONFIG.mel_bins) and heard.patches.shape == (64, 32)
    assert torch.isfinite(heard.fbanks).all() and heard.patches.max() < CONFIG.audio_tokens
    inside = heard.events >= 0
    assert (heard.labels[inside] // len(LEVELS) == heard.events[inside]).all()
    assert (heard.known[~inside] == 0).all() and set(heard.known[inside].tolist()) <= {1, -1}
    mixed = heard.second >= 0
    assert mixed.any() and (heard.share[mixed] > 0).all() and (heard.share[~mixed] == 0).all()
    assert (heard.share <= 0.5).all() and (heard.second[mixed] != heard.events[mixed]).all()
    assert 5 < inside.logical_not().sum() < 40
    assert mixer.strangers == ["bells"] and (heard.strangers[inside] == OUTSIDE).all()
    assert set(heard.strangers[~inside].tolist()) == {0}


def test_the_same_seed_draws_the_same_batch(mixer):
    first, again = (mixer.batch(torch.Generator().manual_seed(5), 8, 16) for _ in range(2))
    assert torch.equal(first.fbanks, again.fbanks) and torch.equal(first.patches, again.patches)


def test_only_patches_with_sound_are_encoded():
    energies = torch.zeros(100, CONFIG.mel_bins)
    fbank, chosen = clips.patched(energies, 80, random())
    columns = CONFIG.frames // CONFIG.patch
    assert (chosen % columns).max() == 5 and len(chosen) == 80 and len(chosen.unique()) == 48
    floor = (FLOOR - CONFIG.fbank_mean) / CONFIG.fbank_std
    torch.testing.assert_close(fbank[100:], torch.full_like(fbank[100:], floor))
    assert (fbank[:100] > floor + 1).all()


def test_the_gate_leaves_pauses_out():
    steady = torch.zeros(50, CONFIG.mel_bins)
    rests = torch.full((150, CONFIG.mel_bins), FLOOR)
    assert power(torch.cat([steady, rests])) == pytest.approx(power(steady), abs=1e-4)
    assert power(steady + nepers(10.0)) == pytest.approx(power(steady) + math.log(10), abs=1e-4)


def test_a_mixture_adds_powers():
    loud, soft = torch.zeros(40, 8), torch.zeros(10, 8)
    mixed = clips.mixed(loud, soft, -10.0, random())
    changed = (mixed > 1e-6).any(1)
    assert changed.sum() == 10 and mixed[changed].mean() == pytest.approx(math.log(1.1), abs=1e-4)


def test_variation_keeps_the_shape_and_changes_the_sound(mixer):
    energies = mixer.synthetic[0][0][0].energies.float()
    varied = [clips.vary(energies, random(seed)) for seed in range(12)]
    assert all(v.shape == energies.shape and torch.isfinite(v).all() for v in varied)
    assert all(not torch.allclose(v, energies, atol=0.1) for v in varied)
    faded = clips.faded(energies, random(1))
    assert (faded <= energies + 1e-5).all() and (faded < energies - 0.1).any()
    rested = torch.cat([clips.with_silence(torch.zeros(100, 4), random(seed)) for seed in range(8)])
    assert 0 < (rested < FLOOR + 1e-3).all(1).sum() < 800
