"""Sampling for a training step: pictures and timesteps, both spread evenly."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .settings import TrainSettings

TIMESTEPS = 1000


def picture_rows(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches [batch] of picture numbers: every picture once in random order, then again."""
    waiting = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def timesteps(settings: TrainSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches [batch] of timesteps, each uniform in the long run."""
    batch = settings.batch
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    while True:
        if settings.timesteps == "stratified":
            # Evenly spaced within a batch; the golden ratio spreads the batches of any number of steps.
            shift = (shift + 0.6180339887498949) % 1
            places = (torch.arange(batch, dtype=torch.float64) + shift) / batch
        else:
            places = torch.rand(batch, generator=generator, dtype=torch.float64)
            if settings.timesteps == "antithetic":
                places[batch - batch // 2 :] = 1 - places[: batch // 2]
        yield at(places)


def at(places: Tensor) -> Tensor:
    """Places [B] in the schedule, from 0 (the clean picture) to 1 (all noise), as timesteps."""
    return (places * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)
