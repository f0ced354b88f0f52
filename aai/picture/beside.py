"""Rows that run beside a batch: the same latents with other prompts, in whose text the batch's own rows look
too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..errors import InputError
from .model import Conditioning, padded

LONGER = "Without the words the prompt has more pieces than with them: scale the neighbouring words too."


@dataclass(frozen=True)
class Beside:
    """A batch's row number `row` once more, with its prompt `without` some words, of this weight; `pooled`:
    its pooled text is its prompt's own, and has the words' weight too."""

    row: int
    without: Conditioning
    weight: float
    pooled: bool = True


def with_rows(cond: Conditioning, beside: Sequence[Beside], count: int) -> Conditioning:
    """The conditioning of a batch of `count` rows, whose prompts are taken in turn, and of what runs beside
    it: a row each. Raises InputError where a prompt is longer without its words."""
    if any(part.without.cross.shape[1] > cond.cross.shape[1] for part in beside):
        raise InputError(LONGER)
    rows = [_row(cond, i % len(cond.token_ids)) for i in range(count)]
    for part in beside:
        own, without = rows[part.row], part.without
        if not part.pooled:
            without = replace(without, pooled=own.pooled)
        elif own.pooled is not None:
            pooled = torch.lerp(without.pooled, own.pooled, part.weight)
            rows[part.row] = replace(own, pooled=pooled)
        rows.append(without)
    return padded(rows, None)


def _row(cond: Conditioning, number: int) -> Conditioning:
    pooled = None if cond.pooled is None else cond.pooled[number : number + 1]
    return Conditioning(cond.cross[number : number + 1], pooled, (cond.token_ids[number],))
