"""Which words a recording has: the network by hand, and its file."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.audio import Sound
from aai.encoders.presence import Presence, statistics
from aai.errors import InputError


def presence(dim=16, labels=3):
    torch.manual_seed(0)
    sizes = [(2 * dim,), (2 * dim,), (4, 2 * dim), (4,), (labels, 4), (labels,)]
    parts = [torch.randn(size) for size in sizes]
    return Presence(parts[0], parts[1].abs() + 1, *parts[2:])


def test_statistics_are_the_tokens_mean_and_deviation(encoder):
    wave = 0.1 * torch.randn(1, round(encoder.seconds * 16000))
    tokens = encoder.model.forward_audio(encoder.fbanks(wave))[0]
    rows = statistics(encoder, Sound(wave, 16000))
    assert_close(rows, torch.cat([tokens.mean(0), tokens.std(0)])[None])
    assert statistics(encoder, Sound(wave.repeat(1, 3), 16000)).shape == (3, 32)


def test_probabilities_are_the_most_of_all_windows(encoder):
    made = presence()
    sound = Sound(0.1 * torch.randn(1, 3 * round(encoder.seconds * 16000)), 16000)
    x = (statistics(encoder, sound) - made.mean) / made.spread
    by_hand = (F.gelu(x @ made.hidden.T + made.bias) @ made.out.T + made.offset).sigmoid()
    assert_close(made(encoder, sound), by_hand.max(0).values)


def test_its_state_brings_it_back_and_others_are_refused():
    made = presence()
    again = Presence.restore(made.state(), "p.safetensors", 16, 3)
    assert torch.equal(again.logits(torch.ones(1, 32)), made.logits(torch.ones(1, 32)))
    for dim, labels in ((16, 4), (8, 3)):
        with pytest.raises(InputError, match=r"p\.safetensors"):
            Presence.restore(made.state(), "p.safetensors", dim, labels)
    with pytest.raises(InputError, match=r"p\.safetensors"):
        Presence.restore({"mean": torch.zeros(32)}, "p.safetensors", 16, 3)
