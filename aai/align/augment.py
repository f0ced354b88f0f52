"""What a training step changes in the sounds that it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.cavmae import CAVMAEConfig
from ..fbank import EPSILON


def spec_augment(fbanks: Tensor, generator: torch.Generator, floor: float) -> Tensor:
    """Hides two bands of mel bins and two spans of frames of each [B, frames, mel] behind `floor`, and
    turns it in time."""
    fbanks = fbanks.clone()
    batch, frames, mel = fbanks.shape
    for row in range(batch):
        turn = int(torch.randint(frames, (), generator=generator))
        fbanks[row] = fbanks[row].roll(turn, 0)
        for _ in range(2):
            width, start = (
                int(v) for v in (torch.rand(2, generator=generator) * torch.tensor([mel // 6, mel]))
            )
            fbanks[row, :, start : start + width] = floor
            width, start = (
                int(v) for v in (torch.rand(2, generator=generator) * torch.tensor([frames // 8, frames]))
            )
            fbanks[row, start : start + width] = floor
    return fbanks


@dataclass(frozen=True)
class Augment:
    """How a training step changes what it hears.

    `hide` hides bands and spans and turns the clip in time (SpecAugment); `noise` adds CAV-MAE's noise and
    `turn` its turn in time, which together are what the paper's "noise augmentation" does; `gain` makes the
    clip louder or softer by up to so many dB. Leave it at 0 where the level means something: loudness is part
    of what an embedding says.
    """

    hide: bool = True
    noise: bool = False
    gain: float = 0.0
    turn: bool = False

    def __call__(self, fbanks: Tensor, config: CAVMAEConfig, generator: torch.Generator) -> Tensor:
        """Normalised filter banks [B, frames, mel], changed."""
        floor = (math.log(EPSILON) - config.fbank_mean) / config.fbank_std
        batch = len(fbanks)
        if self.gain:
            decibels = self.gain * (2 * torch.rand(batch, 1, 1, generator=generator) - 1)
            # Log energies: 10 dB are a factor of 10.
            fbanks = (fbanks + decibels * math.log(10) / 10 / config.fbank_std).clamp(min=floor)
        if self.noise:
            strength = torch.rand(batch, 1, 1, generator=generator) / 10
            fbanks = fbanks + torch.rand(fbanks.shape, generator=generator) * strength
        if self.turn:
            turns = torch.randint(fbanks.shape[1], (batch,), generator=generator).tolist()
            fbanks = torch.stack([row.roll(turn, 0) for row, turn in zip(fbanks, turns)])
        return spec_augment(fbanks, generator, floor) if self.hide else fbanks


PAPERS = Augment(hide=False, noise=True, turn=True)
"""CAV-MAE's own augmentation, which the paper keeps: noise on, mixup and SpecAugment off."""
