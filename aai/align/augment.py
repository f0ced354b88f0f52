"""Augmentation: what a training step changes in the filter banks that it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.cavmae import CAVMAEConfig
from ..fbank import EPSILON


def spec_augment(fbanks: Tensor, generator: torch.Generator, floor: float) -> Tensor:
    """SpecAugment: [B, frames, mel] with two bands of mel bins and two spans of frames of each set to
    `floor`, and each rolled in time."""
    fbanks = fbanks.clone()
    batch, frames, mel = fbanks.shape
    for row in range(batch):
        fbanks[row] = fbanks[row].roll(int(torch.randint(frames, (), generator=generator)), 0)
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
    """How a training step changes its filter banks.

    `hide` masks bands and spans and rolls the clip in time (SpecAugment); `noise` adds CAV-MAE's noise and
    `turn` its roll in time, which together are what the paper's "noise augmentation" does; `gain` makes the
    clip louder or softer by up to so many dB. Leave it at 0 where the level means something: loudness is part
    of what an embedding says.
    """

    hide: bool = True
    noise: bool = False
    gain: float = 0.0
    turn: bool = False

    @classmethod
    def named(cls, name: str, gain: float = 0.0) -> Augment | None:
        """One of AUGMENTATIONS; None where nothing is changed."""
        if name == "none" and not gain:
            return None
        noise = name in ("noise", "both")
        return cls(hide=name in ("hide", "both"), noise=noise, gain=gain, turn=noise)

    @property
    def name(self) -> str:
        """Which of AUGMENTATIONS this is nearest to."""
        if self.hide:
            return "both" if self.noise else "hide"
        return "noise" if self.noise else "none"

    def __call__(self, fbanks: Tensor, config: CAVMAEConfig, generator: torch.Generator) -> Tensor:
        """Normalised filter banks [B, frames, mel] to as many augmented ones."""
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


AUGMENTATIONS = ("noise", "hide", "both", "none")
"""What `Augment.named` takes. "noise" is CAV-MAE's own, which the paper keeps: mixup and SpecAugment off."""
