"""Settings that cannot train are refused by name."""

import math

import pytest

from aai.align.settings import AlignSettings
from aai.errors import InputError


@pytest.mark.parametrize("settings", [{"accumulate": 0}, {"warmup": 0}, {"keep": 0.0}, {"keep": 1.5}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        AlignSettings(**settings)


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


def test_an_unknown_momentum_is_refused():
    with pytest.raises(InputError, match="fast"):
        AlignSettings(momentum="fast")


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match="1 sounds"):
        AlignSettings(batch=1)
