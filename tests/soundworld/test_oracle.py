"""The shipped oracle, on pictures whose content is known."""

import numpy as np
import torch

from aai.soundworld.loaders import load_events_oracle, load_oracle
from aai.soundworld.oracle import CALM
from aai.soundworld.pictures import event_mask, render, render_events
from aai.soundworld.world import EVENTS, SCENES


def drawn(rows, size=128):
    pictures = [torch.from_numpy(render(*row, size=size)) for row in rows]
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255


def test_events_scenes_and_strengths_are_named():
    rows = [(SCENES[i % 5], event, 0.7, 100 + i) for i, event in enumerate((*EVENTS, None))]
    grades = load_oracle().grade(drawn(rows))
    assert grades.events == [*EVENTS, CALM]
    assert grades.scenes == [row[0] for row in rows]
    assert all(abs(i - 0.7) < 0.25 for i in grades.intensities[:-1])


def test_a_picture_of_any_size_is_outlined():
    grades = load_oracle().grade(drawn([("city", "dog", 0.7, 1)], size=192))
    mask = torch.from_numpy(event_mask("city", "dog", 0.7, 1, 64))
    assert grades.masks.shape == (1, 64, 64) and grades.masks.dtype == torch.bool
    both, either = (grades.masks[0] & mask).sum(), (grades.masks[0] | mask).sum()
    assert both / either > 0.5


def test_several_events_are_named():
    scene = {"rain": 0.8, "dog": 0.7}
    pictures = [render_events("city", scene, 5), render_events("village", {"clock": 0.7}, 6)]
    shown = load_events_oracle().events(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255)
    assert shown == [{"rain", "dog"}, {"clock"}]
