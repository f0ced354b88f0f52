"""Loudness as it comes, against the measure of the whole."""

import math

import numpy as np
import pytest
import torch

from aai import audio
from aai.audio import Sound
from aai.meter import LoudnessMeter


def noise(seconds: float, rate: int = 22050, channels: int = 2) -> Sound:
    samples = torch.randn(channels, round(seconds * rate), generator=torch.Generator().manual_seed(1))
    swell = torch.linspace(0.001, 0.2, samples.shape[1])
    return Sound(samples * swell, rate)


def metered(sound: Sound, block: int) -> LoudnessMeter:
    meter = LoudnessMeter()
    for begin in range(0, sound.waveform.shape[1], block):
        meter.add(Sound(sound.waveform[:, begin : begin + block], sound.rate, sound.layout))
    return meter


@pytest.mark.parametrize("block", [997, 22050, 10**6])
def test_a_sound_in_blocks_is_as_loud_as_the_whole(block):
    sound = noise(3.7)
    meter = metered(sound, block)
    assert math.isclose(meter.seconds, sound.seconds)
    assert math.isclose(meter.integrated(), audio.loudness(sound), abs_tol=0.02)
    times = np.arange(0.2, 3.5, 0.3)
    # Each moment alone: the filter begins anew, which a moment later is forgotten.
    alone = [audio.loudness(sound.cut(time - 0.2, 0.4)) for time in times]
    assert np.allclose(meter.loudness(times), alone, atol=0.2)


def test_silence_is_silent_also_after_a_loud_sound():
    quiet = Sound(torch.cat([noise(1).waveform, torch.zeros(2, 22050)], 1), 22050)
    levels = metered(quiet, 5000).loudness(np.array([0.5, 1.6]))
    assert levels[0] > -40 and levels[1] == -math.inf
    assert metered(Sound(torch.zeros(1, 8000), 16000), 1000).integrated() == -math.inf


def test_the_ends_are_as_loud_as_what_there_is_of_them():
    meter = metered(noise(1), 4000)
    assert np.isfinite(meter.loudness(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("rate", [8001, 22050])
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3, 0.399])
def test_a_sound_shorter_than_a_block_is_padded_as_the_whole_is(seconds, rate):
    sound = noise(seconds, rate)
    meter = metered(sound, 500)
    assert math.isclose(meter.integrated(), audio.loudness(sound), abs_tol=0.02)
    assert meter.count == sound.waveform.shape[1]
