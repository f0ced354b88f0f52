"""What a picture model draws of SoundWorld's captions, and how much of its pictures is the decoder's grid."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ...metrics import Share
from ...picture.model import PictureModel
from ...prompt import Prompt
from ..captions import phrase
from ..models import PATCH
from ..oracle import Oracle
from ..pictures import render
from ..world import EVENTS, SCENES, placed
from .edits import GUIDANCE, SAMPLING_STEPS

RENDERED = 8_300_000
"""The first seed of the rendered pictures that generated ones are compared with."""


def grid_energy(pictures: Tensor) -> float:
    """The mean squared step from pixel to pixel across the edges of a decoder's patches, over that of all
    steps: 1 without a grid. Pictures [N, 3, H, W], whose sides are multiples of PATCH; rows and columns."""
    grey = pictures.double().mean(1)
    ratios = []
    for lines in (grey, grey.mT):
        steps = lines.diff(dim=-1).square().mean((0, 1))
        ratios.append(steps[PATCH - 1 :: PATCH].mean() / steps.mean())
    return float(sum(ratios) / 2)


def drawn_captions(model: PictureModel, seeds: Iterable[int]) -> dict[tuple[str, str], Tensor]:
    """Pictures of every event in every scene, [seeds, 3, H, W] each."""
    uncond, drawn = model.encode_prompt(Prompt("")), {}
    for event, scene in product(EVENTS, SCENES):
        cond = model.encode_prompt(Prompt(placed(scene, event).replace("*", phrase(event, None))))
        latents = model.sample(cond, uncond, seeds=list(seeds), steps=SAMPLING_STEPS, guidance=GUIDANCE)
        drawn[event, scene] = model.decode(latents)
    return drawn


def captions(model: PictureModel, oracle: Oracle, seeds: range) -> dict[str, Share | float]:
    """The share of pictures with the caption's event and scene, and their grid's energy beside that of
    rendered pictures of the same events and scenes."""
    drawn, both, events, scenes = drawn_captions(model, seeds), 0, 0, 0
    for (event, scene), pictures in drawn.items():
        grades = oracle.grade(pictures)
        for found, place in zip(grades.events, grades.scenes):
            both += (found, place) == (event, scene)
            events, scenes = events + (found == event), scenes + (place == scene)
    count = len(drawn) * len(seeds)
    energies = grid_energy(torch.cat(list(drawn.values()))), grid_energy(rendered(seeds))
    return {
        "event and scene": Share(both, count),
        "event": Share(events, count),
        "scene": Share(scenes, count),
        "grid, times the rendered pictures'": energies[0] / energies[1],
    }


def rendered(seeds: range) -> Tensor:
    """Rendered pictures of every event in every scene, [N, 3, 128, 128]."""
    rng = np.random.default_rng(RENDERED)
    rows = [
        render(scene, event, float(rng.uniform(0.3, 0.9)), RENDERED + seed)
        for event, scene in product(EVENTS, SCENES)
        for seed in seeds
    ]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255
