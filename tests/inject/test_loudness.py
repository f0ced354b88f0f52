"""Loudness becomes a scale, and a scale the weight of a token's value rows."""

import math

import pytest

from aai.errors import InputError
from aai.inject.loudness import check_scale, scale_of, value_weights


@pytest.mark.parametrize(
    "loudness, scale", [(-23, 1), (-13, 2), (-33, 0.5), (0, 2), (400, 2), (1e9, 2), (-math.inf, 0)]
)
def test_ten_lufs_double_the_scale(loudness, scale):
    assert scale_of(loudness) == pytest.approx(scale)


def test_the_reference_can_be_typed():
    assert scale_of(-40, reference=-40) == 1
    with pytest.raises(InputError, match="nan LUFS"):
        scale_of(math.nan)


@pytest.mark.parametrize("scale", [-0.1, 2.01, math.nan, math.inf])
def test_scales_outside_the_range_are_refused_with_the_reason(scale):
    with pytest.raises(InputError, match="drowns the rest"):
        check_scale(scale)


def test_only_the_tokens_rows_are_weighted():
    token_ids = (1, 320, ("rain", 0), ("rain", 1), 4, ("dog", 0), 2, None)
    assert value_weights(token_ids, {"rain": 0.5}) == [1, 1, 0.5, 0.5, 1, 1, 1, 1]
