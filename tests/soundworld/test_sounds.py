"""The synthesizer follows the intensity and never repeats itself by chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aai.audio import loudness
from aai.errors import InputError
from aai.soundworld.sounds import at_any_level, at_once, intensity_of, lufs_of, synthesize
from aai.soundworld.world import EVENTS


@pytest.mark.parametrize("event", EVENTS)
def test_loudness_follows_the_intensity(event):
    for intensity in (0.1, 0.5, 1.0):
        sound = synthesize(event, intensity, seed=5)
        assert sound.waveform.shape == (1, 80000) and sound.rate == 16000
        assert sound.waveform.abs().max() <= 1
        assert loudness(sound) == pytest.approx(lufs_of(intensity), abs=1.5)


def test_seeds_and_events_differ_and_repeat():
    one = synthesize("rain", 0.5, 1).waveform
    assert torch.equal(one, synthesize("rain", 0.5, 1).waveform)
    assert not torch.equal(one, synthesize("rain", 0.5, 2).waveform)
    assert not torch.equal(one, synthesize("wind", 0.5, 1).waveform)


def test_intensity_is_read_from_loudness():
    assert intensity_of(lufs_of(0.4)) == pytest.approx(0.4)
    assert intensity_of(float("-inf")) == intensity_of(-90) == 0.02
    assert intensity_of(0.0) == 1.0


def test_two_sounds_at_once_are_as_far_apart_as_told():
    first, second = synthesize("rain", 0.4, 1), synthesize("wind", 0.9, 2)
    both = at_once(first, second, 6.0)
    softer = replace(first, waveform=both.waveform - first.waveform)
    assert loudness(softer) == pytest.approx(loudness(first) - 6, abs=0.01)
    assert torch.allclose(
        softer.waveform / softer.waveform.abs().max(),
        second.waveform / second.waveform.abs().max(),
        atol=1e-4,
    )


def test_another_level_is_near_and_clipped():
    sound = synthesize("dog", 0.5, 2)
    for seed in range(5):
        level = loudness(at_any_level(sound, np.random.default_rng(seed))) - loudness(sound)
        assert -8.1 < level < 2.1
    loud = at_any_level(replace(sound, waveform=sound.waveform * 100), np.random.default_rng(0))
    assert loud.waveform.abs().max() == 1


def test_what_there_is_not_is_refused():
    with pytest.raises(InputError, match="cat"):
        synthesize("cat", 0.5, 0)
    with pytest.raises(InputError, match="outside"):
        synthesize("dog", 0.0, 0)
