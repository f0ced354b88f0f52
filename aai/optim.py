"""Optimisation: loss scaling for float16 (Micikevicius et al. 2018), and a learning rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

FIRST = 2.0**15
"""The initial scale: in float16, the gradients of a mean over so many numbers would vanish."""


class LossScale:
    """`value`, by which a loss is multiplied before its gradients are taken and these divided afterwards; 1
    where the U-Net does not compute in float16."""

    def __init__(self, dtype: torch.dtype):
        self.value = FIRST if dtype == torch.float16 else 1.0

    def overflows(self, gradients: Iterable[Tensor]) -> bool:
        """Whether gradients of the scaled loss are not finite: `value` is then half of what it was, for
        another try as long as it is not below 1."""
        if all(torch.isfinite(gradient).all() for gradient in gradients):
            return False
        self.value /= 2
        return True


def set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int, warmup: int) -> None:
    """Sets the learning rate of a step (counted from 0): it rises to `rate` over `warmup` steps and falls
    along a cosine to a fiftieth."""
    fallen = 0.02 + 0.98 * math.cos(step / steps * math.pi / 2) ** 2
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1, (step + 1) / warmup) * fallen
