"""The renderer draws what it is told, visibly, and the same every time."""

import numpy as np
import pytest

from aai.errors import InputError
from aai.soundworld.pictures import event_mask, render, render_events
from aai.soundworld.world import EVENTS, SCENES


def test_the_same_arguments_give_the_same_picture():
    one, two = render("city", "dog", 0.6, 3), render("city", "dog", 0.6, 3)
    assert one.dtype == np.uint8 and one.shape == (128, 128, 3)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, render("city", "dog", 0.6, 4))
    assert render("city", None, 0.5, 3, size=64).shape == (64, 64, 3)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_shows_in_every_scene_and_grows(event):
    for scene in SCENES:
        calm, with_event = render(scene, None, 0.5, 1), render(scene, event, 0.7, 1)
        assert np.abs(calm.astype(int) - with_event).mean() > 4
    areas = [
        np.mean([event_mask("forest", event, i, seed).mean() for seed in range(4)])
        for i in (0.1, 0.4, 0.7, 1.0)
    ]
    assert areas == sorted(areas) and areas[-1] > 1.5 * areas[0] > 0


def test_the_mask_is_where_the_event_is():
    picture, calm = render("village", "clock", 0.6, 2), render("village", None, 0.6, 2)
    mask = event_mask("village", "clock", 0.6, 2)
    changed = np.abs(picture.astype(int) - calm).sum(-1) > 0
    assert changed[mask].mean() > 0.95
    assert changed[~mask].mean() < 0.05
    assert not event_mask("village", None, 0.6, 2).any()


@pytest.mark.parametrize(
    ("scene", "event", "intensity"), [("moon", None, 0.5), ("city", "cat", 0.5), ("city", "dog", 0)]
)
def test_what_there_is_not_is_refused(scene, event, intensity):
    with pytest.raises(InputError):
        render(scene, event, intensity, 0)


def test_several_events_stand_in_one_scene():
    alone = render("city", "dog", 0.7, 3)
    assert np.array_equal(render_events("city", {"dog": 0.7}, 3), alone)
    both = render_events("city", {"rain": 0.7, "dog": 0.7}, 3)
    dog = event_mask("city", "dog", 0.7, 3)
    # What is named later stands in front.
    assert np.abs(both.astype(int) - alone)[dog].mean() < np.abs(both.astype(int) - alone)[~dog].mean()
    assert not np.array_equal(both, render("city", "rain", 0.7, 3))
    with pytest.raises(InputError, match="no event 'flood'"):
        render_events("city", {"rain": 0.5, "flood": 0.5}, 1)
    with pytest.raises(InputError, match="no scene 'moon'"):
        render_events("moon", {}, 1)
