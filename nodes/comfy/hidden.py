"""Rows that a transformer runs beside a batch's own: the same latents with another prompt, in which
the batch's own rows look too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...aai.errors import InputError
from ...aai.inject.edit_run import InjectionPlan
from ...aai.inject.words import WordScale
from ...aai.picture.beside import LONGER
from ...aai.picture.model import Conditioning, lengthened
from ...aai.prompt import TokenIds

ARGUMENTS = {"conditioning_llama3": "encoder_hidden_states_llama3"}
"""What core's models call a part of a conditioning, where it is not the conditioning's own name."""


@dataclass(frozen=True)
class Hidden:
    """A chunk of a batch once more, with its prompts without some words: `rows` of the batch, and the token
    ids of their prompts, in turn; `plan` knows their scales. `left`: short texts have their padding in
    front."""

    chunk: int
    rows: Sequence[int]
    token_ids: tuple[TokenIds, ...]
    word: WordScale
    plan: InjectionPlan
    left: bool = False

    def conditioning(self, row: int) -> Conditioning | None:
        """What stands in for a row's prompt, by its number in the chunk; None for its own."""
        return self.word.without.get(self.token_ids[row % len(self.token_ids)])

    def scale(self, row: int) -> float:
        """The words' weight in a row, by its number in the chunk."""
        return self.plan.word_scale(self.word, row)

    @property
    def pooled(self) -> bool:
        """Whether a row's pooled embedding is its own prompt's: an edit's may be its source's."""
        return not self.plan.source_pooled


def with_rows(x, t, c_concat, c_crossattn: Tensor, control, named: dict, hidden: Sequence[Hidden]) -> tuple:
    """The arguments of a model's `apply_model` with the hidden chunks behind the batch's own."""
    rows = [row for part in hidden for row in part.rows]
    size = len(x)
    x, t, c_concat, control = (_extended(value, rows, size) for value in (x, t, c_concat, control))
    named = {key: _extended(value, rows, size) for key, value in named.items()}
    context = _extended(c_crossattn, rows, size).clone()
    for number, part in enumerate(hidden):
        for i in range(len(part.rows)):
            without = part.conditioning(i)
            if without is None:
                continue
            at = size + number * len(part.rows) + i
            context[at] = _replaced(context[at], part.token_ids[i % len(part.token_ids)], without, part.left)
            mask = torch.ones(1, without.cross.shape[1])
            for key, value in {"attention_mask": mask, **without.extra}.items():
                there = named.get(ARGUMENTS.get(key, key))
                if key == "attention_mask" and isinstance(there, Tensor) and there.ndim > 2:
                    # Of scores between all places (Apply Style Model's attn_bias), and so no text's own.
                    continue
                if isinstance(value, Tensor) and isinstance(there, Tensor) and len(there) == len(context):
                    # A copy: what was there may be the caller's.
                    named[ARGUMENTS.get(key, key)] = there = there.clone()
                    there[at] = _fitted(value, without, context, part.left).to(there)[0]
            _share_pooled(named, without, part, i, at)
    return x, t, c_concat, context, control, named


def _share_pooled(named: dict, without: Conditioning, part: Hidden, row: int, at: int) -> None:
    """The pooled text too, where a model reads it, goes from the prompt's without the words to its own."""
    there = named.get("y")
    if without.pooled is None or not part.pooled or not isinstance(there, Tensor):
        return
    if there.shape[1:] == without.pooled.shape[1:] and at < len(there):
        other, own = without.pooled[0].to(there), part.rows[row]
        named["y"] = there = there.clone()
        there[at], there[own] = other, torch.lerp(other, there[own], part.scale(row))


def _replaced(context: Tensor, token_ids: TokenIds, without: Conditioning, left: bool) -> Tensor:
    """A row's context [L, d] with another prompt in the place of its own. What stands behind that, as
    Conditioning Concat puts it there, keeps its place: those that a shorter prompt leaves are masked."""
    made = _fitted(without.cross, without, context[None], left)[0]
    if not left:
        begin = max(without.cross.shape[1], len(token_ids))
        behind = context[len(token_ids) :][: len(made) - begin]
        made[begin : begin + len(behind)] = behind
    return made


def _fitted(value: Tensor, without: Conditioning, context: Tensor, left: bool) -> Tensor:
    own, length = without.cross.shape[1], context.shape[1]
    if own > length:
        raise InputError(LONGER)
    return lengthened(value.to(context.device), own, length, left)


def _extended(value, rows: list[int], size: int):
    """A value, or what it holds, with some rows again at the end, where it has a row for each of `size`."""
    if isinstance(value, Tensor):
        return torch.cat([value, value[rows]]) if value.ndim and len(value) == size else value
    if isinstance(value, dict):
        return {key: _extended(part, rows, size) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_extended(part, rows, size) for part in value)
    return value
