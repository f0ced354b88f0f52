"""Prompts with sound tokens: `*` is the first token, `<name>` the one of that name.

A star, a full-width one too, is a token wherever it stands ("A*," too). In a prompt without tokens it stays a
star; `\\*` and `\\<` are always the plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .embedding import as_name
from .errors import InputError, encodable, logger
from .token import SoundToken

log = logger(__name__)

SLOT = -1
"""A layout's id at the place of a token's vector."""

TokenIds = tuple[int | str | tuple[str, int] | None, ...]
"""What stands at each position of a text encoder's input: a word piece's id, (token name, row) for a sound
token's vector, any other embedding's name, None for padding."""

Split = Callable[[str], list[int]]
"""A tokenizer: a text's ids."""

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
    slots: those places, in order. end: the end token's position. truncated: whether words were cut off.
    """

    ids: list[int]
    slots: list[Slot]
    end: int
    truncated: bool

    @property
    def token_ids(self) -> TokenIds:
        """What stands at each position."""
        token_ids: list = [*self.ids[: self.end + 1], *[None] * (len(self.ids) - self.end - 1)]
        for slot in self.slots:
            token_ids[slot.position] = (slot.name, slot.row)
        return tuple(token_ids)

    @property
    def positions(self) -> dict[str, list[int]]:
        """{token name: its positions}."""
        return token_positions(self.token_ids)


def in_words(text: str, word: str) -> str:
    """A prompt's text for readers that know no sound tokens: a word for each star, and plain characters
    without their backslash; `<name>` stays."""
    return _MARK.sub(lambda mark: mark[1] or (word if mark[2] else mark[0]), text)


def token_positions(token_ids: TokenIds) -> dict[str, list[int]]:
    """{token name: its positions}."""
    positions: dict[str, list[int]] = {}
    for position, piece in enumerate(token_ids):
        if isinstance(piece, tuple):
            positions.setdefault(piece[0], []).append(position)
    return positions


def token_names(conditionings: Iterable[Iterable[TokenIds]]) -> list[str]:
    """The names of the tokens in any row of any conditioning, in order of appearance."""
    rows = (row for rows in conditionings for row in rows)
    return list(dict.fromkeys(name for row in rows for name in token_positions(row)))


@lru_cache(maxsize=64)
def index_projection(source: TokenIds, edited: TokenIds) -> tuple[int, ...]:
    """IndexProj (eq. 7): for each position of the edited prompt, the source's position of the same piece, or
    -1.

    Needleman-Wunsch (gap 0, match 1, mismatch -1) over all but padding, which is projected to the padding at
    the same position.
    """
    source_at = [i for i, piece in enumerate(source) if piece is not None]
    edited_at = [j for j, piece in enumerate(edited) if piece is not None]
    number = {piece: k for k, piece in enumerate(dict.fromkeys((*source, *edited)))}
    edited_numbers = np.array([number[edited[j]] for j in edited_at], dtype=int)
    score = np.zeros((len(source_at) + 1, len(edited_at) + 1), dtype=np.int32)
    for i, position in enumerate(source_at, 1):
        aligned = score[i - 1, :-1] + np.where(edited_numbers == number[source[position]], 1, -1)
        # A gap costs nothing, so the best score from the left is the largest so far.
        score[i, 1:] = np.maximum.accumulate(np.maximum(aligned, score[i - 1, 1:]))
    projection = [j if piece is None and j < len(source) and source[j] is None else -1
                  for j, piece in enumerate(edited)]  # fmt: skip
    i, j = len(source_at), len(edited_at)
    while i and j:
        if source[source_at[i - 1]] == edited[edited_at[j - 1]]:
            projection[edited_at[j - 1]] = source_at[i - 1]
            i, j = i - 1, j - 1
        elif score[i - 1, j] >= score[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return tuple(projection)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text, and the sound tokens that it may name.

    Raises InputError for text that is not valid Unicode, or two tokens of one name.
    """

    text: str
    tokens: tuple[SoundToken, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "tokens", tuple(self.tokens))
        if encodable(self.text) != self.text:
            raise InputError(
                f"The prompt '{self.text}' holds half a character, as an emoji that was cut: write it again."
            )
        names = [token.name for token in self.tokens]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"Two sound tokens of one prompt are named '{twice}': rename one of them.")

    def pieces(self) -> list[str | SoundToken]:
        """The text and the tokens in order; neighbouring text is one piece.

        Raises InputError for a `<name>` that no token has.
        """
        pieces: list[str | SoundToken] = []
        text, last = "", 0
        for mark in _MARK.finditer(self.text):
            plain, star, name = mark.groups()
            text += self.text[last : mark.start()]
            last = mark.end()
            if plain or (star and not self.tokens):
                text += plain or star
                continue
            if text:
                pieces.append(text)
                text = ""
            pieces.append(self.tokens[0] if star else self._token_named(as_name(name)))
        text += self.text[last:]
        return [*pieces, text] if text else pieces

    def used(self) -> list[SoundToken]:
        """The tokens that the text names, in the order in which it first does."""
        return list(dict.fromkeys(p for p in self.pieces() if isinstance(p, SoundToken)))

    @property
    def letters(self) -> str:
        """The text without capitals and spaces. Of prompts with the same token ids, those that differ in it
        have other weights, "(rain:1.3)", which are in no token id."""
        return "".join(self.text.casefold().split())

    def layout(
        self,
        tokenize: Split,
        encoder: str = "clip_l",
        length: int = 77,
        pad: int | None = None,
        least: int | None = None,
        partial: bool = False,
    ) -> Layout:
        """The prompt's ids and the places of its tokens' vectors for one CLIP text encoder.

        `tokenize` gives a text's ids between a begin and an end id, as CLIPTokenizer does; it is called for
        each piece between tokens, as ComfyUI does. `pad` fills up to `least` places, `length` without it;
        None takes the end id. Words that do not fit are cut off at the end, with a warning. Raises InputError
        where that would cut off a token, or a token has no vectors for `encoder`; where the encoder is of
        little weight, `partial` leaves such tokens out.
        """
        begin, end = tokenize("")[:1], tokenize("")[-1:]
        ids: list[int] = list(begin)
        slots: list[Slot] = []
        for piece in self.pieces():
            if isinstance(piece, str):
                ids += tokenize(piece)[1:-1]
            else:
                _stand(piece, encoder, ids, slots, partial)
        pad = end[0] if pad is None else pad
        least = length if least is None else least
        return _fitted(ids, slots, (len(begin), end), length, least, pad, partial)

    def word_layout(
        self,
        split: Split,
        encoder: str,
        frame: tuple[str, str] = ("", ""),
        end: Sequence[int] = (),
        length: int = 512,
        least: int = 1,
        pad: int = 0,
    ) -> Layout:
        """As `layout`, for T5 and language models: the ids of the text, between the two parts of a chat's
        `frame`, and of an `end`.

        `split` gives a text's ids alone. A piece of these vocabularies begins with its space: a token that
        stands for a word takes it along.
        """
        before, after = frame
        pieces = _merged([before, *self.pieces(), after])
        ids: list[int] = []
        slots: list[Slot] = []
        for i, piece in enumerate(pieces):
            if not isinstance(piece, str):
                _stand(piece, encoder, ids, slots)
                continue
            if i + 1 < len(pieces):
                piece = piece.removesuffix(" ")
            if piece:
                ids += following(split, piece) if ids else split(piece)
        return _fitted(ids, slots, (0, end), length, least, pad)

    def _token_named(self, name: str) -> SoundToken:
        token = next((t for t in self.tokens if t.name == name), None)
        if token is None:
            known = ", ".join(f"<{t.name}>" for t in self.tokens) or "none"
            raise InputError(
                f"The prompt names <{name}>, but there is no such sound token (there is {known}): correct "
                "the name, or write \\< for a plain <."
            )
        return token


def following(split: Split, text: str) -> list[int]:
    """A text's ids behind a word: some vocabularies put a space before any text of its own. `split` gives a
    text's ids alone."""
    word, both = split("a"), split(f"a{text}")
    return both[len(word) :] if both[: len(word)] == word else split(text)


def _merged(pieces: Iterable[str | SoundToken]) -> list[str | SoundToken]:
    """The pieces without empty text; neighbouring text is one piece."""
    merged: list[str | SoundToken] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        elif piece:
            merged.append(piece)
    return merged


def _stand(token: SoundToken, encoder: str, ids: list[int], slots: list[Slot], partial: bool = False) -> None:
    """Puts a token's slots behind the ids. Raises InputError where it has no vectors for the encoder, unless
    it may be left out."""
    if encoder not in token.vectors:
        if partial:
            return
        raise InputError(
            f"The sound token '{token.name}' was made for {', '.join(token.vectors)}, but this "
            f"model reads {encoder}: train it with this model, or load the model that it was "
            "trained with."
        )
    rows = range(len(token.vectors[encoder]))
    slots += [Slot(len(ids) + row, token.name, row) for row in rows]
    ids += [SLOT] * len(rows)


def _fitted(
    ids: list[int],
    slots: list[Slot],
    ends: tuple[int, Sequence[int]],
    length: int,
    least: int,
    pad: int,
    partial: bool = False,
) -> Layout:
    """The ids with their end and padding, in `length` places at most and `least` at least. `ends` are how
    many of the ids begin a text, and those that end it."""
    begin, end = ends
    room = length - len(end)
    truncated = len(ids) > room
    cut_off = next((s for s in slots if s.position >= room), None)
    if cut_off is not None and not partial:
        raise InputError(
            f"The prompt is too long: the sound token '{cut_off.name}' stands past the {room - begin} "
            "words' pieces that the text encoder reads. Shorten the prompt or move the token forward."
        )
    if truncated and not partial:
        log.warning(
            "The prompt has %d pieces; the text encoder reads the first %d: shorten it.",
            len(ids) - begin,
            room - begin,
        )
    ids = [*ids[:room], *end]
    slots = [s for s in slots if s.position < room]
    return Layout(ids + [pad] * (least - len(ids)), slots, len(ids) - 1, truncated)
