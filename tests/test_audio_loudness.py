"""Loudness against torchaudio and the standard's own reference tones and filters."""

import math
import wave as wave_module

import av
import numpy as np
import pytest
import torch
import torchaudio
from scipy.signal import lfilter

from aai import audio
from aai.audio import Sound


def test_reference_tones_have_their_loudness(make_tone):
    # EBU Tech 3341, cases 1 and 2: a stereo sine of 1 kHz at -23 and -33 dBFS.
    assert audio.loudness(make_tone(-23)) == pytest.approx(-23, abs=0.1)
    assert audio.loudness(make_tone(-33)) == pytest.approx(-33, abs=0.1)
    # Case 3: quiet parts do not count.
    quiet, loud = make_tone(-36, 3), make_tone(-23, 20)
    joined = Sound(torch.cat([quiet.waveform, loud.waveform, quiet.waveform], dim=1), 48000)
    assert audio.loudness(joined) == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_loudness_is_close_to_torchaudios(rate, make_noise):
    sound = make_noise(3, rate, channels=2)
    theirs = float(torchaudio.functional.loudness(sound.waveform, rate))
    assert audio.loudness(sound) == pytest.approx(theirs, abs=0.3 if rate < 32000 else 0.1)


def plain_loudness(wave, weights):
    """BS.1770-4 without its gates, which a steady tone does not reach: the standard's own filters at 48
    kHz."""
    shelved = lfilter(
        [1.53512485958697, -2.69169618940638, 1.19839281085285],
        [1.0, -1.69065929318241, 0.73248077421585],
        wave.double().numpy(),
    )
    filtered = lfilter([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621], shelved)
    return -0.691 + 10 * math.log10(np.dot(weights, (filtered**2).mean(-1)))


SURROUND = [1, 1, 1, 0, 1.41, 1.41]


@pytest.mark.parametrize(
    "layout, weights",
    [
        ("5.1", SURROUND),
        ("5.1(side)", SURROUND),
        ("7.1", [1, 1, 1, 0, 1, 1, 1.41, 1.41]),
        ("6.1", [1, 1, 1, 0, 1, 1.41, 1.41]),
        ("5.0", [1, 1, 1, 1.41, 1.41]),
        ("quad", [1, 1, 1.41, 1.41]),
        ("4.0", [1, 1, 1, 1]),
        ("2.1", [1, 1, 0]),
        ("stereo", [1, 1]),
    ],
)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_loudness_counts_the_channels_of_a_file_by_where_they_stand(
    tmp_path, layout, weights, suffix, make_tone
):
    names = tuple(channel.name for channel in av.AudioLayout(layout).channels)
    # Every channel as loud as it is far along, so that no two can be taken for one another.
    decibels = [-30 + 2 * i for i in range(len(weights))]
    wave = torch.cat([make_tone(level, 4, channels=1).waveform for level in decibels])
    wave[[i for i, weight in enumerate(weights) if not weight]] = make_tone(
        -3, 4, channels=1, hertz=60
    ).waveform
    audio.save(Sound(wave, 48000, names), tmp_path / f"surround.{suffix}")
    sound = audio.load(tmp_path / f"surround.{suffix}")
    expected = plain_loudness(wave, weights)
    assert audio.loudness(sound) == pytest.approx(expected, abs=0.02)
    assert audio.loudness(sound.cut(1, 2)) == pytest.approx(expected, abs=0.05)
    assert audio.loudness(sound.resample(32000)) == pytest.approx(expected, abs=0.1)


def test_channels_of_no_stated_place_weigh_the_same(tmp_path, make_tone):
    wave = torch.cat([make_tone(-30 + 2 * i, 4, channels=1).waveform for i in range(6)])
    assert audio.loudness(Sound(wave, 48000)) == pytest.approx(plain_loudness(wave, [1] * 6), abs=0.02)
    # A plain wav file of six channels has no mask of their places.
    with wave_module.open(str(tmp_path / "plain.wav"), "wb") as file:
        file.setparams((6, 2, 48000, 0, "NONE", ""))
        file.writeframes((wave.T.numpy() * 32767).astype("<i2").tobytes())
    sound = audio.load(tmp_path / "plain.wav")
    assert sound.layout is None
    assert audio.loudness(sound) == pytest.approx(plain_loudness(wave, [1] * 6), abs=0.02)
    assert audio.from_tensor(wave, 48000, layout=("FL", "FR")).layout is None


def test_loudness_of_the_short_the_silent_and_the_many(make_noise):
    assert audio.loudness(Sound(torch.zeros(1, 16000), 16000)) == -math.inf
    assert math.isfinite(audio.loudness(make_noise(0.05)))
    eight = Sound(make_noise().waveform.expand(8, -1), 16000)
    assert audio.loudness(eight) == pytest.approx(audio.loudness(make_noise()) + 10 * math.log10(8), abs=1e-3)
    long = make_noise(25)
    assert audio.loudness(Sound(long.waveform / 2, 16000)) == pytest.approx(
        audio.loudness(long) - 6.02, abs=0.01
    )
