"""Local blend: where an edited picture may differ from its source.

The place is a mask that the user gives, or where chosen words attend, or where the edit changes most. Words'
attention maps are never formed whole: a column comes out of an ordinary attention call whose values are ones
at the words' positions. Outside the place the edited row's clean latents are the source's, at every step,
before guidance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..picture.control import Attend, Groups
from ..prompt import TokenIds

START, THRESHOLD = 0.2, 0.3
FINEST = 8
"""Positions a side: a coarser layer cannot show where a word attends."""


@dataclass(frozen=True)
class Blend:
    """Where edited pictures may differ from their source.

    words: the positions of the blend words in each row's prompt, the source's first; () where there are none.
    mask: [H, W] or [edited, H, W] in [0, 1], of any size; 1 where the picture may change.
    changes: only where the edited picture's prediction differs most from the source's, as in DiffEdit
    (Couairon et al. 2022): for a sound whose word attends everywhere.
    Where several are given, all must allow it. Words' places and changes count from a share `start` of the
    steps on, where the map, or the difference, is above `threshold` of its largest value.

    Raises InputError for a mask of another shape, or a share outside [0, 1].
    """

    words: tuple[tuple[int, ...], ...] = ()
    mask: Tensor | None = None
    start: float = START
    threshold: float = THRESHOLD
    changes: bool = False

    def __post_init__(self) -> None:
        for name, share in (("start", self.start), ("threshold", self.threshold)):
            if not 0 <= share <= 1:
                raise InputError(f"A blend {name} of {share:g} is no share: give a number from 0 to 1.")
        if self.mask is not None and self.mask.ndim not in (2, 3):
            raise InputError(
                f"A mask of shape {list(self.mask.shape)} is no mask for a picture: give one [H, W], or one "
                "for each edited picture."
            )


def positions_of(word: TokenIds, token_ids: TokenIds, name: str) -> tuple[int, ...]:
    """Where the pieces of a word or phrase, read alone between its begin and end, stand in a prompt.

    Raises InputError where they do not.
    """
    pieces = [piece for piece in word if piece is not None][1:-1]
    positions = [
        start + i
        for start in range(len(token_ids) - len(pieces) + 1)
        if pieces and list(token_ids[start : start + len(pieces)]) == pieces
        for i in range(len(pieces))
    ]
    if not positions:
        raise InputError(f"The blend word '{name}' is not in the prompt: take a word that it has.")
    return tuple(positions)


def word_positions(
    words: Sequence[str], token_ids_of: Callable[[str], TokenIds], rows: Sequence[TokenIds]
) -> tuple[tuple[int, ...], ...]:
    """`Blend.words` for the rows' prompts; a word need stand in one of them only. `token_ids_of(word)` are
    a word's alone.

    Raises InputError for a word that no prompt has.
    """
    positions: list[list[int]] = [[] for _ in rows]
    for word in words:
        word_ids, missing = token_ids_of(word), 0
        for row, token_ids in zip(positions, rows):
            try:
                row += positions_of(word_ids, token_ids, word)
            except InputError:
                missing += 1
                if missing == len(rows):
                    raise
    return tuple(map(tuple, positions))


class BlendRun:
    """One sampling's blend: gathers the words' maps, and gives the mask. `size` is the latents' (h, w)."""

    def __init__(self, blend: Blend, rows: int, size: tuple[int, int]):
        self.blend, self.rows, self.size = blend, rows, size
        coarse = 4
        while coarse > 1 and min(size) / coarse < FINEST:
            coarse //= 2
        self.layer = tuple(math.ceil(side / coarse) for side in size)
        self.gathered: Tensor | None = None
        self.changed: Tensor | None = None
        self.saw_other_sizes = self.saw_other_layers = False

    def observe(self, attend: Attend, q: Tensor, k: Tensor, groups: Groups, size: tuple[int, int]) -> None:
        """Gathers where the words attend in a layer of q [B, heads, N, d], k [B, heads, L, d], in a call for
        latents of `size`. Only layers of one size are gathered, and only of the whole picture."""
        if not self.blend.words:
            return
        if tuple(size) != self.size:
            self.saw_other_sizes = True
            return
        if q.shape[-2] != math.prod(self.layer):
            self.saw_other_layers = True
            return
        rows = [row for group in groups for row in group]
        # A position's values say whether a word stands there, so any one channel of the output is the map.
        ones = torch.zeros_like(k[: self.rows])
        for row, places in enumerate(self.blend.words):
            ones[row, :, list(places)] = 1
        maps = attend(q[rows], k[rows], ones.repeat(len(groups), 1, 1, 1))[..., 0].mean(1).float()
        maps = maps.unflatten(-1, self.layer).unflatten(0, (-1, self.rows))
        # Core may run the parts of a batch on devices of their own.
        self.gathered = maps if self.gathered is None else self.gathered + maps.to(self.gathered.device)

    def mask(self, progress: float) -> Tensor | None:
        """Where the edited rows may differ now, [groups, edited, 1, h, w] in [0, 1], or by frame
        [groups, edited, 1, T, h, w]; None for everywhere.

        Raises InputError where the words' places are due, and no layer has been gathered.
        """
        masks = []
        if self.blend.mask is not None:
            given = self.blend.mask.float()
            given = given[None] if given.ndim == 2 else given
            given = F.interpolate(given[:, None], self.size, mode="area")
            masks.append(given.expand(self.rows - 1, -1, -1, -1)[None])
        if progress >= self.blend.start:
            if self.gathered is None and self.saw_other_layers:
                height, width = self.size
                raise InputError(
                    "No layer of this model shows where the blend words look in latents of "
                    f"{width} x {height}: draw a larger picture, or use a mask in place of words."
                )
            if self.gathered is None and self.saw_other_sizes:
                raise InputError(
                    "Where the blend words look is known of a conditioning of the whole picture only: use "
                    "the edit's conditioning without areas, or a mask in place of words."
                )
            if self.gathered is not None:
                maps = F.max_pool2d(self.gathered.flatten(0, 1)[:, None], 3, stride=1, padding=1)
                maps = F.interpolate(maps, self.size, mode="bilinear")
                high = self._high(maps).unflatten(0, (-1, self.rows))
                masks.append((high[:, 1:] | high[:, :1]).float())
            if self.changed is not None:
                masks.append(self._high(self.changed).unflatten(0, (-1, self.rows - 1)).float())
        # Of films only what changes is known by frame.
        dims = max((mask.ndim for mask in masks), default=0)
        masks = [mask if mask.ndim == dims else mask.unsqueeze(3) for mask in masks]
        return reduce(lambda a, b: a.to(b) * b, masks) if masks else None

    def _high(self, maps: Tensor) -> Tensor:
        return maps > self.blend.threshold * maps.amax(tuple(range(2, maps.ndim)), keepdim=True)

    def compare(self, clean: Tensor) -> None:
        """Measures where the clean latents [groups * rows, C, h, w], or [groups * rows, C, T, h, w] of films,
        without guidance, differ."""
        if self.blend.changes:
            source, *edited = clean.float().unflatten(0, (-1, self.rows)).unbind(1)
            distances = torch.stack(
                [(row - source).square().mean(1, keepdim=True).sqrt() for row in edited], 1
            )
            distances = distances.flatten(0, 1)
            frames = distances.flatten(1, -3)
            self.changed = F.avg_pool2d(frames, 3, 1, 1, count_include_pad=False).view_as(distances)

    def blended(self, latents: Tensor, progress: float) -> Tensor:
        """Clean latents [groups * rows, C, h, w], the edited rows the source's outside the mask."""
        return self._masked(latents, self.mask(progress))

    def restored(self, latents: Tensor, progress: float) -> Tensor:
        """Clean latents that were blended before guidance, with the source's again where nothing may change:
        where the mask lies between 0 and 1, it has been applied."""
        mask = self.mask(progress)
        return self._masked(latents, None if mask is None else mask.ceil())

    def _masked(self, latents: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return latents
        grouped = latents.unflatten(0, (-1, self.rows))
        source, edited = grouped[:, :1], grouped[:, 1:]
        mask = mask if mask.ndim == grouped.ndim else mask.unsqueeze(3)
        # Where the mask is 0 or 1 nothing rounds: the source's latents are taken as they are.
        mixed = torch.lerp(source.expand_as(edited), edited, mask.to(latents))
        return torch.cat([source, mixed], 1).flatten(0, 1)
