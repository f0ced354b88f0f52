from __future__ import annotations

import pytest
import torch

from aai.metrics import student
from aai.study.figures import compare, figure, sentence, table
from aai.study.results import Result
from aai.study.scores import Measure

SHARE = Measure("event", "it is there", yes_or_no=True)
ERROR = Measure("off", "how far off", more_is_better=False)


def cells(condition, *values, name="event"):
    return [Result(condition, "rain", i, torch.zeros(0), {name: list(row)}) for i, row in enumerate(values)]


def test_intervals_end_where_the_measure_does():
    found = figure(cells("a", (0.0,), (0.5,), name="off"), "a", ERROR)
    assert (found.value, found.low, found.high) == (0.25, 0.0, 1.0)


def test_means_have_an_interval_over_sounds():
    values = {"rain": 0.2, "dog": 0.4, "fire": 0.6}
    alike = [Result("a", s, i, torch.zeros(0), {"off": [v, v]}) for s, v in values.items() for i in range(3)]
    found = figure(alike, "a", ERROR)
    low, high = student([0.2, 0.4, 0.6])
    assert (found.low, found.high, found.count) == (max(low, 0), pytest.approx(high), 18)


def test_shares_have_wilsons_interval():
    found = figure(cells("a", (1, 1), (1, 0)), "a", SHARE)
    assert (found.value, found.count) == (0.75, 4)
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-3)
    assert figure([], "a", SHARE) is None


@pytest.mark.parametrize(
    ("one", "other", "measure", "verdict"),
    [
        ((0.9, 0.8, 0.9), (0.1, 0.1, 0.2), SHARE, "confirmed"),
        ((0.1, 0.1, 0.2), (0.9, 0.8, 0.9), SHARE, "denied"),
        ((0.1, 0.1, 0.2), (0.9, 0.8, 0.9), ERROR, "confirmed"),
        ((0.1, 0.9, 0.2), (0.2, 0.1, 0.9), SHARE, "not decided"),
        ((0.9,), (0.1,), SHARE, "not decided"),
        ((1.0, 1.0), (1.0, 1.0), SHARE, "not decided"),
    ],
)
def test_a_direction_is_confirmed_denied_or_left_open(one, other, measure, verdict):
    held = cells("a", *((v,) for v in one), name=measure.name) + cells(
        "b", *((v,) for v in other), name=measure.name
    )
    found = compare(held, "a", "b", measure)
    assert found.verdict == verdict and (found.count, found.over) == (len(one), "seeds")
    said = {"confirmed": "better by", "denied": "worse by", "not decided": "not decided by"}[verdict]
    over = f"{len(one)} seed{'s' * (len(one) > 1)}"
    assert sentence([found]).startswith(f"a against b, {over}: {said} {measure.name} (")
    assert compare(held, "a", "c", measure) is None


def of_sounds(condition, **values):
    """A cell for each seed of each sound."""
    return [
        Result(condition, sound, seed, torch.zeros(0), {"event": [value]})
        for sound, row in values.items()
        for seed, value in enumerate(row)
    ]


def test_seeds_of_a_sound_are_not_sounds_of_their_own():
    nothing = of_sounds("b", rain=(0, 0, 0), dog=(0, 0, 0), fire=(0, 0, 0))
    found = compare(
        [*of_sounds("a", rain=(1, 1, 1), dog=(0, 0, 0), fire=(1, 0.5, 0)), *nothing], "a", "b", SHARE
    )
    assert (found.count, found.over, found.verdict) == (3, "sounds", "not decided")
    assert (found.low, found.high) == pytest.approx(student([1.0, 0.0, 0.5]))


def test_differences_that_are_all_alike_decide_where_there_are_enough():
    for sounds, verdict in ((5, "not decided"), (6, "confirmed")):
        names = [f"sound {i}" for i in range(sounds)]
        held = of_sounds("a", **{n: (1,) for n in names}) + of_sounds("b", **{n: (0,) for n in names})
        found = compare(held, "a", "b", SHARE)
        assert found.verdict == verdict and "(+1.000 in all)" in sentence([found])
    same = compare(of_sounds("a", rain=(1,), dog=(1,)) + of_sounds("b", rain=(1,), dog=(1,)), "a", "b", SHARE)
    assert sentence([same]) == "a against b, 2 sounds: not decided by event (no difference)."


def test_rounding_decides_nothing():
    """0.8 - 0.6 and 0.6 - 0.4 differ in their last digit, as do sums of the same numbers in another order."""
    fifths = compare(
        of_sounds("a", rain=(0.6,), dog=(0.8,)) + of_sounds("b", rain=(0.4,), dog=(0.6,)), "a", "b", SHARE
    )
    assert fifths.low != fifths.high and fifths.verdict == "not decided"
    assert sentence([fifths]) == "a against b, 2 sounds: not decided by event (+0.200 in all)."
    there, back = (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)
    same = compare(cells("a", *[there] * 6) + cells("b", *[back] * 6), "a", "b", SHARE)
    assert same.difference != 0 and same.verdict == "not decided"
    assert sentence([same]) == "a against b, 6 seeds: not decided by event (no difference)."


def test_a_table_has_a_row_for_each_condition_that_was_drawn():
    text = table(
        "Title", ["a", "b", "c"], [SHARE, ERROR], cells("a", (1, 0)) + cells("b", (0.5,), name="off")
    )
    assert "| a | 50.0 % [9, 91] |  |" in text and "| b |  | 0.500" in text and "| c |" not in text
