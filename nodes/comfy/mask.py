"""Attention masks of texts of different length in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """How long each batch row's text is: `lengths`, of `own` places behind `before` others of a joint
    sequence; `filled` where the model itself puts something there, and nothing is masked."""

    lengths: Sequence[int]
    own: int
    before: int
    filled: bool

    @property
    def any(self) -> bool:
        """Whether some row is shorter than another."""
        return min(self.lengths) < self.own

    def bias(self, like: Tensor, keys: int, alone: bool, first: bool, text: int) -> Tensor | None:
        """What is added to the scores [B, 1, keys] so that no query sees what lies behind a row's own text,
        in a sequence that is the text alone, or has it at its beginning or end; None for nothing."""
        if self.filled or not self.any:
            return None
        start = 0 if alone else self.before if first else keys - text + self.before
        bias = torch.zeros(len(self.lengths), 1, keys, device=like.device, dtype=like.dtype)
        for row, length in zip(bias, self.lengths):
            row[:, start + length : start + self.own] = -torch.finfo(like.dtype).max
        return bias


def joined(mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """A model's own mask ([Q, K], [B, Q, K] or [B, H, Q, K], of scores or of booleans) and a bias
    [B, 1, K]."""
    if mask is None or bias is None:
        return bias if mask is None else mask
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=bias.dtype).masked_fill_(~mask, -torch.finfo(bias.dtype).max)
    # Two masks of one place stay finite.
    return torch.maximum(mask + (bias[:, None] if mask.ndim == 4 else bias), bias.new_tensor(_least(bias)))


def of_queries(mask: Tensor | None, queries: slice, length: int) -> Tensor | None:
    """The mask of some of the queries."""
    return mask if mask is None or mask.shape[-2] != length else mask[..., queries, :]


def of_rows(mask: Tensor | None, rows: Sequence[int]) -> Tensor | None:
    """The mask of some of the batch's rows."""
    if mask is None or mask.ndim == 2 or len(mask) == 1 or list(rows) == list(range(len(mask))):
        return mask
    return torch.stack([mask[row] for row in rows])


def _least(like: Tensor) -> float:
    return torch.finfo(like.dtype).min
