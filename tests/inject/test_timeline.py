"""What is heard when: words that are held, what is unknown or silent, and the envelope."""

import math

import numpy as np
import pytest
import torch

from aai.audio import Sound, loudness
from aai.errors import InputError
from aai.inject.timeline import Envelope, follow, held_words, is_known, timeline
from aai.inject.windows import SoundWindows
from aai.meter import LoudnessMeter

HOP, RATE = 0.25, 8000
LABELS = ("rain", "a dog", "wind")


def heard(words: str, levels=None, unknown: str = "", sure: float = 0.99) -> SoundWindows:
    """Windows of r(ain), d(og), w(ind) or silence ('.'), with noise of such LUFS under each."""
    parts, levels = [], levels or [-20.0] * len(words)
    noise = torch.randn(1, len(words) * round(HOP * RATE), generator=torch.Generator().manual_seed(0))
    own = loudness(Sound(noise, RATE))
    for part, word, level in zip(noise.split(round(HOP * RATE), 1), words, levels):
        parts.append(part * (0.0 if word == "." else 10 ** ((level - own) / 20)))
    meter = LoudnessMeter()
    meter.add(Sound(torch.cat(parts, 1), RATE))
    shares = torch.full((len(words), 3), (1 - sure) / 2)
    for number, word in enumerate(words):
        if word in "rdw":
            shares[number, "rdw".index(word)] = sure
    f_a = torch.eye(3)[[max("rdw".find(word), 0) for word in words]] * 2.0
    silent = torch.tensor([word == "." for word in words])
    known = torch.tensor([0.01 if word in unknown else 0.99 for word in words])
    f_a[silent] = 0
    return SoundWindows(f_a, silent, shares, known, 0.5, HOP, 1.0, meter, LABELS, "ear")


def test_each_frame_has_its_word_loudness_and_time():
    made = timeline(heard("rrrrrrrrdddddddd"), 4)
    assert len(made) == 16 and made.words == ("rain",) * 8 + ("a dog",) * 8
    assert made.times[0] == 0.125 and np.allclose(made.loudness[2:-2], -20, atol=1.5)
    assert made.stretch.tolist() == [0] * 8 + [1] * 8
    assert torch.allclose(made.f_a, 2 * torch.eye(3)[:2])
    rows = made.rows()
    assert rows[8]["word"] == "a dog" and rows[8]["time"] == 2.125 and 0 < rows[8]["scale"] <= 2
    assert len(timeline(heard("rrrr"), 10)) == 10 and len(timeline(heard("r"), 0.1)) == 1


@pytest.mark.parametrize(
    ("hold", "words", "expected"),
    [
        (0.0, "rrrdrrr", "rrrdrrr"),
        (0.75, "rrrddrrr", "rrrrrrrr"),
        (0.75, "rrrddddrrr", "rrrddddrrr"),
        (2.0, "rrrrrrddddrrrrrr", "rrrrrrrrrrrrrrrr"),
        (0.75, "rrrr..rrrr", "rrrrrrrrrr"),
    ],
)
def test_a_word_is_held_against_flicker(hold, words, expected):
    assert ["rdw"[i] for i in held_words(heard(words), hold)] == list(expected)


def test_what_speaks_faintly_for_a_word_takes_longer_to_change_it():
    faint = held_words(heard("rrrrddddrrrr", sure=0.45), 0.75)
    assert faint.tolist() == [0] * 12


def test_silence_and_the_unknown_draw_nothing():
    made = timeline(heard("rrrrrrrr........dddddddd", unknown="d"), 4, Envelope(attack=0, release=0))
    assert made.words[:7] == ("rain",) * 7 and made.words[-7:] == ("",) * 7
    assert (made.scale[1:7] > 0.5).all() and not made.scale[10:].any()
    assert made.loudness[12] == -math.inf and made.loudness[-2] > -25
    nothing = timeline(heard("." * 8), 4)
    assert not nothing.scale.any() and nothing.words == ("",) * 8 and nothing.f_a.shape == (0, 3)
    assert nothing.stretch.tolist() == [-1] * 8


def test_windows_across_a_cut_do_not_make_a_sound_unknown():
    assert is_known(torch.tensor([0.1, 0.2, 0.9, 0.95]), 0.5)
    assert not is_known(torch.tensor([0.1, 0.2, 0.6, 0.2]), 0.5) and not is_known(torch.zeros(0), 0.0)


def test_the_envelope_comes_and_goes_in_its_time():
    steps = follow([0.0] * 50 + [1.0] * 100 + [0.0] * 100, attack=0.2, release=0.5, rate=50)
    assert not steps[:50].any()
    assert math.isclose(steps[50 + 9], 1 - math.exp(-1), abs_tol=0.01)
    assert math.isclose(steps[150 + 24] / steps[149], math.exp(-1), abs_tol=0.01)
    assert follow([0, 1, 0], 0, 0, 50).tolist() == [0, 1, 0]


def test_a_word_stays_while_its_sound_goes():
    made = timeline(heard("rrrrrrrr........"), 4, Envelope(release=0.5))
    fading = made.scale[8:]
    assert fading[0] > 0.1 and (np.diff(fading) < 0).all() and (made.stretch == 0).all()


def test_loudness_sets_the_scale():
    levels = [-30.0] * 8 + [-20.0] * 8
    windows = heard("r" * 16, levels)
    literal = timeline(windows, 4, Envelope(attack=0, release=0, ratio=1, reference=-23)).scale
    assert np.allclose(literal[3], 2 ** ((timeline(windows, 4).loudness[3] + 23) / 10), rtol=0.1)
    assert literal[12] / literal[3] == pytest.approx(2, rel=0.25)
    pressed = timeline(windows, 4, Envelope(attack=0, release=0, ratio=4, reference=-23)).scale
    assert 1 < pressed[12] / pressed[3] < 1.3
    louder = timeline(
        heard("r" * 16, [level + 8 for level in levels]), 4, Envelope(attack=0, release=0)
    ).scale
    assert np.allclose(louder, timeline(windows, 4, Envelope(attack=0, release=0)).scale, atol=0.02)
    gated = timeline(windows, 4, Envelope(attack=0, release=0, threshold=-25)).scale
    assert not gated[3] and gated[12]


def test_how_much_of_a_word_there_is():
    made = timeline(heard("rrrrrrrrdddddddd"), 4)
    assert made.shares("rain")[2] > 0.95 > 0.05 > made.shares("rain")[12]
    with pytest.raises(InputError, match="no word of the encoder 'ear'"):
        made.shares("cat")


@pytest.mark.parametrize("rate", [0, -1, 240, math.nan, math.inf])
def test_a_rate_that_makes_no_film_gets_a_sentence(rate):
    with pytest.raises(InputError, match="make no film"):
        timeline(heard("rr"), rate)


@pytest.mark.parametrize(
    "wrong", [{"hold": -1}, {"attack": math.nan}, {"release": 61}, {"gain": math.inf}, {"ratio": 0.5}]
)
def test_an_envelope_out_of_range_gets_a_sentence(wrong):
    with pytest.raises(InputError, match="take"):
        Envelope(**wrong)


def test_three_hours_are_a_matter_of_seconds():
    """43,200 windows, without their sound."""
    windows = heard("rrrrdddd")
    parts = (windows.f_a, windows.silent, windows.shares, windows.known)
    many = (part.repeat(5400, *[1] * (part.ndim - 1)) for part in parts)
    assert len(held_words(SoundWindows(*many, 0.5, HOP, 1.0, windows.meter, LABELS, "ear"), 0.75)) == 43200
