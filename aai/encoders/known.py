"""Whether a sound lies within what an encoder knows.

An encoder gives every sound some direction, and that of a stranger may be as near to a word as any. What
tells them apart is a classifier on f_a that has met sounds of no word too (outlier exposure, Hendrycks et
al., ICLR 2019). It gives the probability that the encoder has a word for the sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Known:
    """Two layers on the direction of f_a [dim]: `hidden` [H, dim] and `bias` [H], then `out` [H] and
    `offset`; a sound below the probability `threshold` is unknown."""

    hidden: Tensor
    bias: Tensor
    out: Tensor
    offset: float
    threshold: float = 0.5

    def logits(self, f_a: Tensor) -> Tensor:
        """f_a [B, dim] to [B]."""
        direction = F.normalize(f_a.float().cpu(), dim=-1)
        return F.gelu(F.linear(direction, self.hidden, self.bias)) @ self.out + self.offset

    def probability(self, f_a: Tensor) -> Tensor:
        """The probability that each of f_a [B, dim] is known, [B]."""
        return self.logits(f_a).sigmoid()

    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Its weights and its numbers, as an encoder's file holds them."""
        tensors = {"hidden": self.hidden, "bias": self.bias, "out": self.out}
        return tensors, {"offset": self.offset, "threshold": self.threshold}

    @classmethod
    def of(cls, head: nn.Sequential, threshold: float = 0.5) -> Known:
        """A trained `new_head` as a test."""
        first, _, last = head
        hidden, bias, out = (part.detach().clone() for part in (first.weight, first.bias, last.weight[0]))
        return cls(hidden, bias, out, last.bias.item(), threshold)

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], numbers: dict[str, float], dim: int) -> Known:
        """Its `state` again, for an encoder of so many numbers.

        Raises KeyError, TypeError or ValueError for what does not fit.
        """
        hidden, bias, out = (tensors[name].float() for name in ("hidden", "bias", "out"))
        offset, threshold = float(numbers["offset"]), float(numbers["threshold"])
        if (
            hidden.ndim != 2
            or hidden.shape[1] != dim
            or bias.shape != hidden.shape[:1]
            or out.shape != bias.shape
        ):
            raise ValueError(f"a test of what it knows of shape {tuple(hidden.shape)} for {dim} numbers")
        finite = all(bool(torch.isfinite(part).all()) for part in (hidden, bias, out))
        if not finite or not math.isfinite(offset) or not 0 <= threshold <= 1:
            raise ValueError("a test of what it knows that holds no numbers")
        return cls(hidden, bias, out, offset, threshold)


def new_head(dim: int, hidden: int = 64) -> nn.Sequential:
    """The two layers to train: f_a of length one [B, dim] to logits [B, 1]."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))
