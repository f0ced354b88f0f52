"""Films from video models: the word and the scale of every frame of a clip's latent, of a timeline with a
frame for each picture."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .film import SOURCE, FilmPlan, planned
from .timeline import Timeline

MOST_TEXTS = 64
"""Prompts that a clip's frames may read: each is encoded, and stands in every layer."""


def latent_length(timeline: Timeline, pictures: int) -> int:
    """How many latent frames a timeline fills, the last perhaps in part: the first is one picture, each
    other as many as `pictures`."""
    return 1 + -(-(len(timeline) - 1) // pictures)


def latent_plan(timeline: Timeline, frames: int, pictures: int) -> FilmPlan:
    """What each of a clip's latent frames shows; the timeline has a frame for each of its pictures. A latent
    frame draws the word that shows most in its pictures, at their mean scale.

    Raises InputError for a timeline that ends before the last latent frame begins.
    """
    fits = latent_length(timeline, pictures)
    if frames > fits:
        raise InputError(
            f"The latent has {frames} frames, which are {1 + (frames - 1) * pictures} pictures of video, and "
            f"the timeline {len(timeline)}: take a longer sound, a shorter video, or the video's own frame "
            "rate in Sound Timeline."
        )
    stretch, scale = np.empty(frames, dtype=int), np.empty(frames)
    for number in range(frames):
        begin = max(0, 1 + (number - 1) * pictures)
        span = slice(begin, 1 + number * pictures)
        shown: dict[int, float] = {}
        for each, amount in zip(timeline.stretch[span].tolist(), timeline.scale[span].tolist()):
            shown[each] = shown.get(each, 0.0) + amount
        stretch[number] = max(shown, key=shown.__getitem__)
        scale[number] = np.where(timeline.stretch[span] >= 0, timeline.scale[span], 0.0).mean()
    return planned(stretch, scale)


def taken(plan: FilmPlan, reading: bool = True) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Each latent frame's take of a plan, and the stretches of its shots, each once. Frames that show the
    source take the one after the shots'. Raises InputError for more stretches than MOST_TEXTS where each has
    a text to read."""
    frames = tuple(len(plan.shots) if number == SOURCE else number for number in plan.frames)
    stretches = tuple(dict.fromkeys(shot.stretch for shot in plan.shots))
    if reading and len(stretches) > MOST_TEXTS:
        raise InputError(
            f"The timeline has {len(stretches)} different sounds, more than a clip can read "
            f"({MOST_TEXTS}): give Sound Timeline the clip's own part of the recording, or raise hold."
        )
    return frames, stretches
