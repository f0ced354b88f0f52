"""Prompts with sound tokens: `*` is the first token, `<name>` the one of that name.

A star, a full-width one too, is a token wherever it stands ("A*," too). In a prompt without tokens it stays a
star; `\\*` and `\\<` are always the plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import InputError, encodable, logger
from .token import SoundToken

log = logger(__name__)

SLOT = -1
"""The id that stands in a layout where a token's vector goes."""

TokenIds = tuple[int | str | tuple[str, int] | None, ...]
"""What a text encoder reads at each position: a word piece's id, (token name, row) for a sound token's
vector, any other embedding's name, None for padding."""

_MARK = re.compile("\\\\([*\uff0a<])|([*\uff0a])|<([^<>\n]+)>")


class Slot(NamedTuple):
    """A place of a token's vector: its position among the ids, the token's name, and which of its vectors."""

    position: int
    name: str
    row: int


@dataclass(frozen=True)
class Layout:
    """A prompt as a text encoder reads it.

    ids: `length` ids with begin, end and padding, SLOT where a token's vector goes.
    slots: those places, in order. positions: {token name: its positions}. end: the end token's position.
    truncated: whether words were cut off.
    """

    ids: list[int]
    slots: list[Slot]
    positions: dict[str, list[int]]
    end: int
    truncated: bool

    @property
    def token_ids(self) -> TokenIds:
        """What stands at each position."""
        found: list = [*self.ids[: self.end + 1], *[None] * (len(self.ids) - self.end - 1)]
        for slot in self.slots:
            found[slot.position] = (slot.name, slot.row)
        return tuple(found)


def token_positions(token_ids: TokenIds) -> dict[str, list[int]]:
    """{token name: its positions}."""
    found: dict[str, list[int]] = {}
    for position, piece in enumerate(token_ids):
        if isinstance(piece, tuple):
            found.setdefault(piece[0], []).append(position)
    return found


def token_names(conditionings: Iterable[Iterable[TokenIds]]) -> list[str]:
    """The tokens that any row of any conditioning reads, in the order in which they come."""
    rows = (row for rows in conditionings for row in rows)
    return list(dict.fromkeys(name for row in rows for name in token_positions(row)))


@lru_cache(maxsize=64)
def index_projection(source: TokenIds, edited: TokenIds) -> tuple[int, ...]:
    """IndexProj (eq. 7): for each position of the edited prompt, the source's position of the same piece, or
    -1.

    Needleman-Wunsch (gap 0, match 1, mismatch -1) over all that is read; padding stands for the padding at
    the same position.
    """
    source_at = [i for i, piece in enumerate(source) if piece is not None]
    edited_at = [j for j, piece in enumerate(edited) if piece is not None]
    number = {piece: k for k, piece in enumerate(dict.fromkeys((*source, *edited)))}
    here = np.array([number[edited[j]] for j in edited_at], dtype=int)
    score = np.zeros((len(source_at) + 1, len(edited_at) + 1), dtype=np.int32)
    for i, there in enumerate(source_at, 1):
        met = score[i - 1, :-1] + np.where(here == number[source[there]], 1, -1)
        # A gap costs nothing, so what comes from the left is the largest so far.
        score[i, 1:] = np.maximum.accumulate(np.maximum(met, score[i - 1, 1:]))
    found = [j if piece is None and j < len(source) and source[j] is None else -1
             for j, piece in enumerate(edited)]  # fmt: skip
    i, j = len(source_at), len(edited_at)
    while i and j:
        if source[source_at[i - 1]] == edited[edited_at[j - 1]]:
            found[edited_at[j - 1]] = source_at[i - 1]
            i, j = i - 1, j - 1
        elif score[i - 1, j] >= score[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Prompt:
    """Words, and the sound tokens that they may name. Raises InputError for text that is no valid Unicode."""

    text: str
    tokens: tuple[SoundToken, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "tokens", tuple(self.tokens))
        if encodable(self.text) != self.text:
            raise InputError(
                f"The prompt '{self.text}' holds half a character, as an emoji that was cut: write it again."
            )
        names = [t.name for t in self.tokens]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise InputError(f"Two sound tokens of one prompt are named '{twice}': rename one of them.")

    def pieces(self) -> list[str | SoundToken]:
        """The text and the tokens in order; neighbouring text is one piece.

        Raises InputError for a `<name>` that no token has.
        """
        found: list[str | SoundToken] = []
        text, last = "", 0
        for mark in _MARK.finditer(self.text):
            plain, star, name = mark.groups()
            text += self.text[last : mark.start()]
            last = mark.end()
            if plain or (star and not self.tokens):
                text += plain or star
                continue
            if text:
                found.append(text)
                text = ""
            found.append(self.tokens[0] if star else self._named(name.strip()))
        text += self.text[last:]
        return [*found, text] if text else found

    def used(self) -> list[SoundToken]:
        """The tokens that the text names, in the order in which it first does."""
        return list(dict.fromkeys(p for p in self.pieces() if isinstance(p, SoundToken)))

    def layout(
        self,
        tokenize: Callable[[str], list[int]],
        encoder: str = "clip_l",
        length: int = 77,
        pad: int | None = None,
    ) -> Layout:
        """The prompt's ids and the places of its tokens' vectors for one text encoder.

        `tokenize` gives a text's ids between a begin and an end id, as CLIPTokenizer does; it is called for
        each piece between tokens, as ComfyUI does. `pad` fills up to `length`; None takes the end id.
        What does not fit is cut off at the end, with a warning. Raises InputError where that would cut off a
        token, or a token has no vectors for `encoder`.
        """
        begin, end = tokenize("")[:1], tokenize("")[-1:]
        ids: list[int] = list(begin)
        slots: list[Slot] = []
        for piece in self.pieces():
            if isinstance(piece, str):
                ids += tokenize(piece)[1:-1]
                continue
            if encoder not in piece.vectors:
                raise InputError(
                    f"The sound token '{piece.name}' was made for {', '.join(piece.vectors)}, but this "
                    "model reads "
                    f"{encoder}: train it with this model, or load the model that it was trained with."
                )
            rows = range(len(piece.vectors[encoder]))
            slots += [Slot(len(ids) + row, piece.name, row) for row in rows]
            ids += [SLOT] * len(rows)
        truncated = len(ids) > length - 1
        lost = next((s for s in slots if s.position >= length - 1), None)
        if lost is not None:
            raise InputError(
                f"The prompt is too long: the sound token '{lost.name}' stands past the {length - 2} "
                "words' pieces that "
                "the text encoder reads. Shorten the prompt or move the token forward."
            )
        if truncated:
            log.warning(
                "The prompt has %d pieces; the text encoder reads the first %d: shorten it.",
                len(ids) - 1,
                length - 2,
            )
        ids = [*ids[: length - 1], *end]
        positions: dict[str, list[int]] = {}
        for slot in slots:
            positions.setdefault(slot.name, []).append(slot.position)
        padding = [end[0] if pad is None else pad] * (length - len(ids))
        return Layout(ids + padding, slots, positions, len(ids) - 1, truncated)

    def _named(self, name: str) -> SoundToken:
        found = next((t for t in self.tokens if t.name == name), None)
        if found is None:
            known = ", ".join(f"<{t.name}>" for t in self.tokens) or "none"
            raise InputError(
                f"The prompt names <{name}>, but there is no such sound token (there is {known}): correct "
                "the name, "
                "or write \\< for a plain <."
            )
        return found
