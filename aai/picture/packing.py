"""Latents as a transformer of Flux's family reads them: a sequence of 2x2 squares, and where each stands."""

from __future__ import annotations

import torch
from torch import Tensor

PACK = 2
"""Latents to the side of a square."""


def packed(latents: Tensor) -> Tensor:
    """[B, C, h, w] to [B, h/2 * w/2, C * 4], each row channel by channel."""
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // PACK, PACK, width // PACK, PACK)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(rows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `packed`, for latents of `height` x `width`."""
    squares = rows.reshape(len(rows), height // PACK, width // PACK, -1, PACK, PACK)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(len(rows), -1, height, width)


def place_ids(height: int, width: int) -> Tensor:
    """(0, row, column) of every square of latents of `height` x `width`: [h/2 * w/2, 3]."""
    rows, columns = torch.arange(height // PACK), torch.arange(width // PACK)
    grid = torch.stack(torch.meshgrid(torch.zeros(1), rows.float(), columns.float(), indexing="ij"), dim=-1)
    return grid.reshape(-1, 3)
