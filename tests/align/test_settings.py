"""Settings that cannot train are refused by name."""

import math

import pytest

from aai.align.settings import AlignSettings
from aai.errors import InputError


@pytest.mark.parametrize("name", ["accumulate", "warmup", "twin_every"])
def test_counts_of_nothing_are_refused(name):
    with pytest.raises(InputError, match=f"{name} 0 must be 1 or more"):
        AlignSettings(**{name: 0})


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(keep):
    with pytest.raises(InputError, match=f"share of {keep:g} of the patches"):
        AlignSettings(keep=keep)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rate", (0.0, -1e-3, math.nan, math.inf)),
        ("tau", (0.0, -0.05, 1.0, math.nan, math.inf)),
        ("weight_decay", (-0.1, math.nan, math.inf)),
        ("alpha", (-0.1, 1.5, math.nan)),
        ("m", (-0.1, 1.5, math.nan)),
    ],
)
def test_numbers_that_cannot_train_are_named(name, values):
    for value in values:
        with pytest.raises(InputError, match=f"{name} of {value:g}"):
            AlignSettings(**{name: value})


def test_no_loss_at_all_is_refused():
    with pytest.raises(InputError, match="there is nothing to train: keep audio_visual or audio_text"):
        AlignSettings(audio_visual=False, audio_text=False)


def test_an_unknown_momentum_is_refused():
    with pytest.raises(InputError, match="fast"):
        AlignSettings(momentum="fast")


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match="1 sounds"):
        AlignSettings(batch=1)
