"""Injection as tensor functions: attention in which rows of a batch borrow from one another, without a map.

A map S enters attention only as S @ V, so none is ever formed. With c_j the share of the source's map at
position j of the edited prompt (0 at a sound token) and M the matrix that moves value row j to IndexProj(j),

    eq. 7:  out = softmax(q_s k_s) M diag(c) v_e + softmax(q_e k_e) diag(1 - c) v_e

is two ordinary attention calls, and in self-attention one. Eq. 8 multiplies the value rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import torch
from torch import Tensor

from ..errors import InputError
from ..picture.control import Attend, Groups


@dataclass(frozen=True)
class ValueMix:
    """One edited picture's value rows at one step, of a conditioning of L positions.

    On the source's map: `kept` of the source's own row (below 0 where the edit goes beyond its prompt), and
    `given` [L] of the edited row number `inverse` [L]. On its own map: `own` [L]. Inside the window the
    source's map is that of the source's queries. `gives` and `owns` say whether any `given`, any `own` is not
    0.
    """

    inside: bool
    kept: float
    given: Tensor
    inverse: Tensor
    own: Tensor
    gives: bool
    owns: bool


@dataclass(frozen=True)
class Injection:
    """What one step of the sampler injects: a mix for each edited row, of a group or of several in turn, and
    whether its self-attention is borrowed, in layers `self_downscale` coarser than the latent, or more."""

    mixes: tuple[ValueMix, ...]
    borrows_self: bool = False
    self_downscale: int = 1

    def cross_attention(
        self,
        attend: Attend,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        groups: Groups,
        attend_rest: Attend | None = None,
    ) -> Tensor:
        """Cross-attention [B, ..., N, d] in which each group's edited rows borrow from its source (eq. 7, 8).

        q [B, ..., N, d]; k, v [B, ..., L, d]: all three are overwritten, so that an edit needs no copies.
        `attend(q, k, v)` is any attention. A group is the batch rows of a source and its edited pictures, in
        `mixes`' order; rows of no group pass unchanged. `attend_rest` does the call for the edited rows' own
        maps, on these rows alone, where `attend` must see the whole batch.
        """
        pairs = self._pairs(groups)
        borrowing = [(source, row, mix) for source, row, mix in pairs if mix.gives or mix.kept]
        # The edited pictures' own maps come first: afterwards their queries and keys are the source's.
        own = {row: v[row] * mix.own.to(v)[:, None] for _, row, mix in borrowing if mix.owns}
        if own:
            queries, keys = (rows_of(x, list(own)) for x in (q, k))
            own_out = (attend_rest or attend)(queries, keys, torch.stack(list(own.values())))
        for source, row, mix in pairs:
            if not mix.gives and not mix.kept:
                v[row] *= mix.own.to(v)[:, None]
                continue
            given = v[row].index_select(-2, mix.inverse.to(v.device)) * mix.given.to(v)[:, None]
            v[row] = torch.add(given, v[source], alpha=mix.kept) if mix.kept else given
            k[row] = k[source]
            if mix.inside:
                q[row] = q[source]
        out = attend(q, k, v)
        for i, row in enumerate(own):
            out[row] += own_out[i]
        return out

    def sources(self, groups: Groups) -> dict[int, int]:
        """{row: its source} of the rows whose map in `attend` is their source's."""
        return {row: source for source, row, mix in self._pairs(groups) if mix.gives or mix.kept}

    def own_rows(self, groups: Groups) -> list[int]:
        """The rows that `attend_rest` is called for."""
        return [row for _, row, mix in self._pairs(groups) if (mix.gives or mix.kept) and mix.owns]

    def _pairs(self, groups: Groups) -> list[tuple[int, int, ValueMix]]:
        pairs = ((source, row) for source, *edited in groups for row in edited)
        return [(source, row, mix) for (source, row), mix in zip(pairs, cycle(self.mixes))]

    def to(self, like: Tensor) -> Injection:
        """With its tensors on a tensor's device and of its dtype, so that no layer has to move them."""
        mixes = (
            replace(mix, given=mix.given.to(like), own=mix.own.to(like), inverse=mix.inverse.to(like.device))
            for mix in self.mixes
        )
        return replace(self, mixes=tuple(mixes))

    @property
    def length(self) -> int:
        """L, how many positions the conditioning has."""
        return len(self.mixes[0].own)

    def fitted(self, k: Tensor, rows: int) -> Injection | None:
        """For keys [B, L', C] of a batch of `rows` rows, which other code may have lengthened by repeating
        the conditioning: the injection repeated as often. None for other positions or rows than its own."""
        length = self.length
        if k.shape[:2] == (rows, length):
            return self
        repeats = k.shape[1] // length
        if len(k) != rows or repeats * length != k.shape[1] or not _repeats(k, length):
            return None
        mixes = (
            replace(
                m, given=m.given.repeat(repeats), inverse=m.inverse.repeat(repeats), own=m.own.repeat(repeats)
            )
            for m in self.mixes
        )
        return replace(self, mixes=tuple(mixes))

    def self_attention(self, x: Tensor, groups: Groups, size: tuple[int, int]) -> Tensor:
        """A layer's queries or keys, or their inputs, [B, N, C], borrowed where due, for latents of `size`
        (h, w)."""
        # A layer's sides are rounded up, as strided convolutions do.
        places = math.prod(math.ceil(side / self.self_downscale) for side in size)
        return borrow(x, groups) if self.borrows_self and x.shape[1] <= places else x


def weighted(own: list[float], length: int) -> ValueMix:
    """A picture's own map alone, with weighted value rows: eq. 8 without an edit."""
    nothing = torch.zeros(length)
    return ValueMix(False, 0.0, nothing, nothing.long(), tiled(own, length), gives=False, owns=True)


def tiled(values: list, length: int) -> Tensor:
    """Values of a prompt's positions for a conditioning that repeats it to `length`."""
    return torch.tensor(values * (length // len(values)))


def _repeats(k: Tensor, length: int) -> bool:
    first, *others = k.split(length, 1)
    return all(torch.equal(first, other) for other in others)


def rows_of(x: Tensor, rows: Sequence[int]) -> Tensor:
    """Rows of a batch [B, ...], a view where they are evenly spaced."""
    step = rows[1] - rows[0] if len(rows) > 1 else 1
    if step > 0 and list(rows) == list(range(rows[0], rows[-1] + 1, step)):
        return x[rows[0] : rows[-1] + 1 : step]
    # Not by an index list, which would be copied to the device in every layer.
    return torch.stack([x[row] for row in rows])


def borrow(x: Tensor, groups: Groups) -> Tensor:
    """Self-attention's queries or keys [B, ...] with every edited row replaced by its source's."""
    rows = list(range(len(x)))
    for source, *edited in groups:
        for row in edited:
            rows[row] = source
    return rows_of(x, rows)


def groups_of(rows: Sequence[int], size: int) -> list[list[int]]:
    """Batch rows in groups of a source and its edited pictures.

    Raises InputError where the batch does not divide into such groups.
    """
    if len(rows) % size:
        raise InputError(
            f"The batch has {len(rows)} latents, but this edit draws {size} together (the source and the "
            "edited): sample the latents that came from the edit."
        )
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
