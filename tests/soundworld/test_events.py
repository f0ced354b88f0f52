"""Events over a scene: the same every time, and more where they are stronger."""

import numpy as np
import pytest

from aai.soundworld.canvas import UNITS, Canvas
from aai.soundworld.events import DRAW, LIGHT
from aai.soundworld.world import EVENTS


def layer(event: str, intensity: float, seed: int = 0) -> np.ndarray:
    canvas = Canvas()
    DRAW[event](canvas, intensity, np.random.default_rng(seed))
    return canvas.pixels(UNITS)


def test_every_event_is_drawn_and_lights_are_of_events():
    assert set(DRAW) == set(EVENTS) and set(LIGHT) <= set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_the_same_seed_gives_the_same_layer_and_intensity_more_of_it(event):
    assert np.array_equal(layer(event, 0.5), layer(event, 0.5))
    assert not np.array_equal(layer(event, 0.5), layer(event, 0.5, seed=1))
    covered = [np.mean([layer(event, i, seed)[..., 3].mean() for seed in range(3)]) for i in (0.1, 0.5, 1.0)]
    assert 0 < covered[0] < covered[1] < covered[2] < 1


@pytest.mark.parametrize("event", sorted(LIGHT))
def test_a_stronger_event_leaves_less_light(event):
    weak, strong = map(np.array, LIGHT[event])
    assert (strong <= weak).sum() >= 2 and strong.sum() < weak.sum()
