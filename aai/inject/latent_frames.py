"""What each frame of a clip's latent reads in a video model's cross-attention: a text of its own, as loud as
its moment.

There each place of each latent frame asks the text for itself, so that a frame's queries may be given another
text's keys and values than its neighbour's, and find more or less in them (eq. 8); self-attention goes on
making one film of them. The frames' texts stand behind the conditioning's own, one after another, and every
query is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..picture.model import Conditioning
from ..prompt import TokenIds
from .attention import Injection


class Injecting(Protocol):
    """What an edit of a pair injects, as an `Edit` says it."""

    def at(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection: ...


@dataclass(frozen=True)
class Take:
    """How some latent frames read: the text of this number, 0 for the conditioning's own, at a scale; or, in
    an edit, as `plan` injects."""

    text: int
    scale: float = 1.0
    plan: Injecting | None = None


@dataclass(frozen=True)
class LatentFilm:
    """What each latent frame of a clip reads.

    frames [T]: the number of each latent frame's take. texts: those that stand behind the conditioning's own,
    a row each. token_ids: those of the conditioning that it belongs to, a tuple for each row. without: the
    number of the text that scale 0 leaves.
    """

    frames: tuple[int, ...]
    takes: tuple[Take, ...]
    texts: tuple[Conditioning, ...]
    token_ids: tuple[TokenIds, ...]
    without: int = 0

    def of(self, numbers: Sequence[int]) -> list[int]:
        """The takes of latent frames by their numbers in the film. Raises InputError for one that it has
        not."""
        count = len(self.frames)
        if max(numbers) >= count:
            raise InputError(
                f"The timeline is {count} latent frames long, and the latent has {max(numbers) + 1}: take a "
                "longer sound, or a shorter video."
            )
        return [self.frames[number] for number in numbers]


def chosen(x: Tensor, length: int, texts: Mapping[int, int], dim: int = -2) -> Tensor:
    """Of keys or values [B, ..., n * L, d], n texts of `length` L one after another, each batch row's text by
    its number, the first where none is named: [B, ..., L, d]. A copy."""
    out = x.narrow(dim, 0, length).clone()
    for row, text in texts.items():
        if text:
            out[row] = x[row].narrow(dim, text * length, length)
    return out


def runs(takes: Sequence[int | None]) -> list[tuple[int, int, int | None]]:
    """Neighbouring frames of one take: the first, the one behind the last, and the take."""
    found: list[tuple[int, int, int | None]] = []
    for number, take in enumerate(takes):
        if found and found[-1][2] == take:
            found[-1] = (found[-1][0], number + 1, take)
        else:
            found.append((number, number + 1, take))
    return found


def heard(read: Callable[[int], Tensor], take: Take, without: int) -> Tensor:
    """What queries find in a take's text, `read(number)`, from what they find without its words (scale 0) to
    all of it (1) and as far again (2)."""
    if take.scale == 0.0:
        return read(without)
    found = read(take.text)
    return found if take.scale == 1.0 else torch.lerp(read(without), found, take.scale)
