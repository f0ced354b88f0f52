"""Synthesized sounds of no word: all kinds sound, at the level asked for, the same each time."""

import pytest
import torch

from aai.audio import loudness
from aai.errors import InputError
from aai.soundworld.outside import KINDS, examples, synthesize_outside


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_sounds_at_its_level(kind):
    first, again = (synthesize_outside(kind, 3, -28.0, seconds=2.0) for _ in range(2))
    assert torch.equal(first.waveform, again.waveform) and torch.isfinite(first.waveform).all()
    assert first.waveform.shape == (1, 32000) and first.waveform.abs().max() <= 1
    assert loudness(first) == pytest.approx(-28, abs=1)
    assert not torch.equal(first.waveform, synthesize_outside(kind, 4, -28.0, seconds=2.0).waveform)


def test_examples_are_of_every_kind_soft_and_loud():
    sounds = examples(2, seconds=1.0)
    levels = [loudness(sound) for sound in sounds]
    assert len(sounds) == 2 * len(KINDS) and max(levels) - min(levels) > 10


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="no kind of sound 'rain'"):
        synthesize_outside("rain", 0)
