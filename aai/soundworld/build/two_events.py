"""Pictures of two events, with captions that name both: what SoundWorld's denoisers learn after pictures of
one."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..captions import caption_of_several
from ..pictures import draw_rows, event_mask, render_events
from ..world import EVENTS, SCENES
from .denoiser import Starred

SEED = 9_000_000
"""Where the seeds of these pictures begin; no measurement has them."""
FAINTEST = 0.1

Pair = tuple[str, dict[str, float], int]
"""A picture's scene, its events' intensities from the back to the front, and its seed."""


def pair(number: int) -> Pair:
    """A random picture of two events. The larger is behind the smaller, which it would cover."""
    rng = np.random.default_rng([SEED, number])
    scene, seed = str(rng.choice(SCENES)), SEED + number
    events = {str(event): float(rng.uniform(FAINTEST, 1)) for event in rng.choice(EVENTS, 2, replace=False)}
    size = {event: event_mask(scene, event, events[event], seed, size=64).mean() for event in events}
    return scene, {event: events[event] for event in sorted(events, key=size.__getitem__, reverse=True)}, seed


def draw_pairs(pairs: list[Pair]) -> Tensor:
    """The pictures as uint8 [N, 3, H, W]."""
    return draw_rows(render_events, pairs)


def captions_of_pairs(pairs: list[Pair], per_picture: int, seed: int) -> list[Starred]:
    """`per_picture` captions of every picture, those of one picture together."""
    rng = np.random.default_rng(seed)
    return [
        caption_of_several(scene, events, rng, starred=0.35)
        for scene, events, _ in pairs
        for _ in range(per_picture)
    ]
