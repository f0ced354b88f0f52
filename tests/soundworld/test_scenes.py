"""Scenes: each fills the picture, in its own way, and the same for the same seed."""

import numpy as np
import pytest

from aai.soundworld.canvas import UNITS, Canvas
from aai.soundworld.scenes import DRAW
from aai.soundworld.world import SCENES


def picture(scene: str, seed: int = 0) -> np.ndarray:
    canvas = Canvas()
    DRAW[scene](canvas, np.random.default_rng(seed))
    return canvas.pixels(UNITS)


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_fills_the_picture_and_repeats(scene):
    drawn = picture(scene)
    assert drawn[..., 3].all()
    assert np.array_equal(drawn, picture(scene)) and not np.array_equal(drawn, picture(scene, seed=1))


def test_scenes_differ_more_than_their_seeds():
    assert set(DRAW) == set(SCENES)
    same = max(np.abs(picture(scene) - picture(scene, 1)).mean() for scene in SCENES)
    other = min(np.abs(picture(a) - picture(b)).mean() for a in SCENES for b in SCENES if a < b)
    assert other > same
