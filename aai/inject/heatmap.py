"""Where a sound token looks: its attention map over the finished picture.

As in `blend`, no map is formed: a token's column comes out of an ordinary attention call whose values are
ones at its positions. Columns are averaged over heads, layers and steps, as DAAM does (arXiv 2210.04885). In
joint attention the picture's queries look at the picture as well, and the column is the token's share of all.
Films have a map for each frame of their latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..picture.control import Attend
from ..prompt import TokenIds, token_positions
from .blend import FINEST

COLOURS = (
    (0.0, (0.10, 0.02, 0.22)),
    (0.3, (0.25, 0.18, 0.55)),
    (0.55, (0.10, 0.55, 0.60)),
    (0.8, (0.45, 0.85, 0.35)),
    (1.0, (1.0, 0.98, 0.45)),
)
"""The heat map's colours, least to most: dark to light, so that they read without colour too."""


class Heatmap:
    """The maps of the sound tokens `names`, gathered while one sampling runs; the next one starts anew."""

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self._start(0, (0, 0))

    def __deepcopy__(self, memo: dict) -> Heatmap:
        """Itself: a model's clones, which may copy their options whole, fill the one that is read."""
        return self

    @contextmanager
    def sampling(self, pictures: int, size: tuple[int, ...]) -> Iterator[None]:
        """Around a sampling of so many latents of `size` (h, w), or films of (T, h, w). One that does not end
        leaves the maps of the sampling before it, whose picture is the last that there is."""
        before = dict(vars(self))
        self._start(pictures, size)
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    def _start(self, pictures: int, size: tuple[int, ...]) -> None:
        self.pictures, self.size = pictures, tuple(size)
        self.frames = math.prod(size[:-2])
        self._maps: dict[tuple[int, int], Tensor] = {}
        self._shares = torch.zeros(len(self.names), pictures)
        self._calls = 0

    def observe(
        self,
        attend: Attend,
        q: Tensor,
        k: Tensor,
        rows: Sequence[int],
        token_ids: Sequence[TokenIds],
        size: tuple[int, int],
    ) -> None:
        """Gathers one layer's maps from q [B, heads, N, d] and k [B, heads, L, d].

        `rows` are the batch rows of the pictures, in their order; `token_ids` those of each prompt, taken
        in turn; `size` that of the call's latents. Layers that are no grid of the whole picture (an area's,
        merged or tiled places) are left out, and those of too few places.
        """
        layer = _grid(q.shape[-2], size)
        if layer is None or tuple(size) != self.size or len(rows) != self.pictures:
            return
        if min(layer) < min(FINEST, *self.size):
            return
        columns = []
        for picture in range(len(rows)):
            ids = token_ids[picture % len(token_ids)]
            repeats = range(0, k.shape[-2], len(ids))
            positions = token_positions(ids).items()
            columns.append({name: [p + r for p in found for r in repeats] for name, found in positions})
        self._gather(attend, q[list(rows)], k[list(rows)], columns, layer)

    def observe_patches(
        self,
        attend: Attend,
        q: Tensor,
        k: Tensor,
        token_ids: Sequence[TokenIds],
        first: int,
        size: tuple[int, ...],
        patch: int,
    ) -> None:
        """`observe` for a transformer's layer: q [pictures, heads, N, d] begin with the picture's places, of
        `patch` x `patch` latents each, and k [pictures, heads, S, d] have the prompts' from `first` on."""
        layer = (*size[:-2], *(math.ceil(side / patch) for side in size[-2:]))
        places = math.prod(layer)
        if q.shape[-2] < places or tuple(size) != self.size or len(q) != self.pictures:
            return
        columns = [
            {name: [first + p for p in found] for name, found in token_positions(ids).items()}
            for ids in (token_ids[picture % len(token_ids)] for picture in range(len(q)))
        ]
        self._gather(attend, q[..., :places, :], k, columns, layer)

    def _gather(
        self, attend: Attend, q: Tensor, k: Tensor, columns: Sequence[dict], layer: tuple[int, ...]
    ) -> None:
        # Each token has a column of the values; the output's is then its map.
        ones = torch.zeros_like(k)
        for picture, found in enumerate(columns):
            for column, name in enumerate(self.names):
                ones[picture, :, found.get(name, []), column] = 1
        maps = attend(q, k, ones)[..., : len(self.names)].float().mean(1)
        maps = maps.movedim(-1, 0).unflatten(-1, (self.frames, *layer[-2:]))
        shares = maps.mean((2, 3, 4), keepdim=True)
        # Each layer counts alike, however much of its attention the word has.
        maps = (maps / shares.clamp(min=1e-12)).flatten(1, 2)
        grid = layer[-2:]
        # Core may run the parts of a batch on devices of their own.
        before = self._maps.get(grid)
        self._maps[grid] = maps if before is None else before + maps.to(before.device)
        self._shares = self._shares.to(shares) + shares[..., 0, 0, 0]
        self._calls += 1

    @property
    def is_empty(self) -> bool:
        """Whether no sampling has gathered any map."""
        return not self._calls

    def maps(self) -> Tensor:
        """Where each token looked, [tokens, pictures, h, w], as fine as the finest layer: 1 is the average
        place, and 0 all of a picture whose prompt does not name the token. Of films, the frames of their
        latents one after another, [tokens, pictures * T, h, w].

        Raises InputError where no sampling has gathered any.
        """
        if self.is_empty:
            raise InputError("No picture has been sampled with this heat map: sample one, without areas.")
        finest = max(self._maps, key=math.prod)
        total = sum(F.interpolate(s, finest, mode="bilinear") for s in self._maps.values())
        return total / self._calls

    def place_of(self, images: int) -> list[int]:
        """Which of `maps`' pictures each of `images` finished ones is: a film's first latent is one frame,
        the others are as many each.

        Raises InputError for another number.
        """
        each, rest = divmod(images, self.pictures) if self.pictures else (0, images)
        step = 1
        if self.frames > 1 and each > self.frames:
            step, other = divmod(each - 1, self.frames - 1)
            rest += other
        if rest or each != (self.frames - 1) * step + 1:
            what = "pictures" if self.frames == 1 else f"films of {self.frames} latents"
            raise InputError(
                f"The heat map is of {self.pictures} {what}, but {images} pictures came in: connect all that "
                "KSampler drew, and no other."
            )
        return [
            film * self.frames + math.ceil(i / step) for film in range(self.pictures) for i in range(each)
        ]

    def shares(self) -> Tensor:
        """How much of all attention each token had, [tokens, pictures]."""
        return self._shares / max(self._calls, 1)


def normalised(maps: Tensor) -> Tensor:
    """Maps [tokens, pictures, h, w] in [0, 1]: 1 is the place where each token looked most, over all its
    pictures."""
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def coloured(maps: Tensor) -> Tensor:
    """Maps [..., h, w] in [0, 1] as pictures [..., 3, h, w]."""
    stops = torch.tensor([at for at, _ in COLOURS], device=maps.device)
    colours = torch.tensor([colour for _, colour in COLOURS], device=maps.device)
    upper = torch.bucketize(maps.contiguous(), stops).clamp(1, len(COLOURS) - 1)
    share = ((maps - stops[upper - 1]) / (stops[upper] - stops[upper - 1]))[..., None]
    return torch.lerp(colours[upper - 1], colours[upper], share.clamp(0, 1)).movedim(-1, -3)


def _grid(places: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The sides of a layer of so many places over latents of `size`; None where it is none of the U-Net's."""
    coarse = 1
    while coarse <= max(size):
        layer = tuple(math.ceil(side / coarse) for side in size)
        if math.prod(layer) == places:
            return layer
        coarse *= 2
    return None
