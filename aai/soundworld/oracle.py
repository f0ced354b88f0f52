"""The oracle: what a SoundWorld picture shows, as numbers. It grades generated pictures and trains no
other model.

One small convolutional network names the event and the scene, measures the event's intensity and outlines it.
It learns from rendered pictures only, softened and disturbed at random, because a generator's pictures are
softer than a renderer's. A second one tells of each event whether it is there, for pictures of several.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .world import EVENTS, SCENES

CALM = "nothing"


@dataclass(frozen=True)
class Grades:
    """The oracle's grades of B pictures: event (or "nothing"), scene, intensity 0..1, masks [B,
    64, 64]."""

    events: list[str]
    scenes: list[str]
    intensities: list[float]
    masks: Tensor


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    )


def _stages() -> nn.ModuleList:
    return nn.ModuleList([_stage(3, 16), _stage(16, 32), _stage(32, 64), _stage(64, 128)])


class Oracle(nn.Module):
    """Pictures [B, 3, 128, 128] in [0, 1] to event, scene and intensity logits, and mask logits [B, 64,
    64]."""

    def __init__(self) -> None:
        super().__init__()
        self.down = _stages()
        self.event = nn.Linear(128, len(EVENTS) + 1)
        self.scene = nn.Linear(128, len(SCENES))
        self.intensity = nn.Linear(128 + len(EVENTS) + 1, 1)
        self.up = nn.ModuleList(
            [nn.Conv2d(128, 64, 1), nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1)]
        )
        self.mask = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = x * 2 - 1
        levels = []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        pooled = x.mean((2, 3))
        event = self.event(pooled)
        intensity = self.intensity(torch.cat([pooled, event.softmax(-1)], dim=-1))[:, 0].sigmoid()
        for up, level in zip(self.up, reversed(levels[:-1])):
            x = F.silu(F.interpolate(up(x), scale_factor=2.0) + level)
        return event, self.scene(pooled), intensity, self.mask(x)[:, 0]

    @torch.no_grad()
    def grade(self, images: Tensor) -> Grades:
        """Grades pictures [B, 3, H, W] in [0, 1]; other sizes than 128 are resized first."""
        event, scene, intensity, mask = self(_at_its_size(images))
        names = (*EVENTS, CALM)
        return Grades(
            events=[names[i] for i in event.argmax(-1)],
            scenes=[SCENES[i] for i in scene.argmax(-1)],
            intensities=intensity.tolist(),
            masks=mask > 0,
        )


class EventsOracle(nn.Module):
    """Pictures [B, 3, 128, 128] in [0, 1] to a logit for every event, [B, events]."""

    def __init__(self) -> None:
        super().__init__()
        self.down = _stages()
        self.there = nn.Linear(2 * 128, len(EVENTS))

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2 - 1
        for stage in self.down:
            x = stage(x)
        # A small event fills few places, a large one all of them.
        return self.there(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=-1))

    @torch.no_grad()
    def events(self, images: Tensor) -> list[set[str]]:
        """The events that pictures [B, 3, H, W] in [0, 1] show; other sizes than 128 are resized first."""
        return [{EVENTS[i] for i in row.nonzero()[:, 0]} for row in self(_at_its_size(images)) > 0]


def _at_its_size(images: Tensor) -> Tensor:
    if images.shape[-2:] == (128, 128):
        return images
    return F.interpolate(images, (128, 128), mode="bilinear", antialias=True)
