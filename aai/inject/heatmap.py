"""Where a sound token looks: its cross-attention map over the finished picture.

As in `blend`, no map is formed: a token's column comes out of an ordinary attention call whose values are
ones at its positions. Columns are averaged over heads, layers and steps, as DAAM does (arXiv 2210.04885).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..prompt import Reads, token_positions
from .attention import Attend

COLOURS = (
    (0.0, (0.05, 0.03, 0.30)),
    (0.3, (0.45, 0.07, 0.50)),
    (0.6, (0.88, 0.28, 0.30)),
    (0.85, (0.99, 0.70, 0.20)),
    (1.0, (1.0, 1.0, 0.70)),
)
"""The heat map's colours, least to most: dark to light, so that they read without colour too."""


class Heatmap:
    """The maps of the sound tokens `names`, gathered while one sampling runs; the next one starts anew."""

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.pictures = 0
        self.size = (0, 0)
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._calls = 0

    def start(self, pictures: int, size: tuple[int, int]) -> None:
        """A sampling of so many latents of `size` (h, w) begins."""
        self.pictures, self.size = pictures, tuple(size)
        self._sums, self._calls = {}, 0

    def look(
        self,
        attend: Attend,
        q: Tensor,
        k: Tensor,
        rows: Sequence[int],
        reads: Sequence[Reads],
        size: tuple[int, int],
    ) -> None:
        """Gathers one layer's maps from q [B, heads, N, d] and k [B, heads, L, d].

        `rows` are the batch rows of the pictures, in their order; `reads` what each one's prompt reads, taken
        in turn; `size` that of the call's latents. Layers that are no grid of the whole picture (an area's,
        merged or tiled places) are left out.
        """
        layer = _grid(q.shape[-2], size)
        if layer is None or tuple(size) != self.size or len(rows) != self.pictures:
            return
        keys = k[list(rows)]
        # Each token has a column of the values; the output's is then its map.
        ones = torch.zeros_like(keys)
        for picture in range(len(rows)):
            read = reads[picture % len(reads)]
            positions = token_positions(read)
            for column, name in enumerate(self.names):
                places = [
                    p + shift for p in positions.get(name, ()) for shift in range(0, k.shape[-2], len(read))
                ]
                ones[picture, :, places, column] = 1
        maps = attend(q[list(rows)], keys, ones)[..., : len(self.names)].mean(1).float()
        maps = maps.movedim(-1, 0).unflatten(-1, layer)
        self._sums[layer] = maps if layer not in self._sums else self._sums[layer] + maps
        self._calls += 1

    def maps(self) -> Tensor:
        """Each token's share of the attention at each place, [tokens, pictures, h, w], as fine as the finest
        layer; 0 for a picture whose prompt does not name the token.

        Raises InputError where no sampling has gathered any.
        """
        if not self._calls:
            raise InputError(
                "No picture has been sampled with this heat map: give KSampler the model of Attention Heatmap "
                "and the same conditioning, without areas, and connect its picture here."
            )
        finest = max(self._sums, key=math.prod)
        total = sum(F.interpolate(s, finest, mode="bilinear") for s in self._sums.values())
        return total / self._calls


def normalised(maps: Tensor) -> Tensor:
    """Maps [tokens, pictures, h, w] in [0, 1], least to most of each token over all its pictures.

    A picture whose prompt does not name the token stays 0.
    """
    named = (maps > 0).flatten(2).any(2)[..., None, None]
    low = torch.where(named, maps, math.inf).amin((1, 2, 3), keepdim=True)
    high = maps.amax((1, 2, 3), keepdim=True)
    return torch.where(named, (maps - low) / (high - low).clamp(min=1e-12), 0.0)


def coloured(maps: Tensor) -> Tensor:
    """Maps [..., h, w] in [0, 1] as layers [..., 4, h, w] to lay over a picture: a colour, and how opaque it
    is."""
    stops = torch.tensor([at for at, _ in COLOURS], device=maps.device)
    colours = torch.tensor([colour for _, colour in COLOURS], device=maps.device)
    upper = torch.bucketize(maps.contiguous(), stops).clamp(1, len(COLOURS) - 1)
    share = ((maps - stops[upper - 1]) / (stops[upper] - stops[upper - 1]))[..., None]
    mixed = torch.lerp(colours[upper - 1], colours[upper], share.clamp(0, 1)).movedim(-1, -3)
    return torch.cat([mixed, maps[..., None, :, :]], -3)


def laid_over(pictures: Tensor, layers: Tensor, opacity: float) -> Tensor:
    """Pictures [..., 3, H, W] with layers [..., 4, H, W] over them."""
    return torch.lerp(pictures, layers[..., :3, :, :], layers[..., 3:, :, :] * opacity)


def _grid(places: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The sides of a layer of so many places over latents of `size`; None where it is none of the U-Net's."""
    coarse = 1
    while coarse <= max(size):
        layer = tuple(math.ceil(side / coarse) for side in size)
        if math.prod(layer) == places:
            return layer
        coarse *= 2
    return None
