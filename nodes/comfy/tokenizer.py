"""Core's tokenizers with sound tokens among the words.

In the text that a family's tokenizer gets, a character of Unicode's last private area stands for each sound
token; the encoders' own tokenizers are copies that know it. CLIP's take it for `embedding:name`, so that
weights and prompts of several chunks are as in core. In the others' token lists the vectors stand between
what was before and behind it: no chat template changes, and it works where core's `embedding:` is off.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...aai.prompt import TokenIds, following

PLACEHOLDER = "aai-sound-token-"
"""With its number, what a sound token is called in the text that CLIP's tokenizer reads."""
FIRST_MARK = 0x10F000
_RANGE = "\U0010f000-\U0010fffd"
_MARKS = f"[{_RANGE}]"
_FIRST_SLOT = -2
"""The stand-in id of the first row of the first token in a list of ids; -1 is core's "no id"."""

Rows = Sequence[tuple[str, Tensor]]
"""The sound tokens of a prompt in order, each its name and its vectors [n, d]; n is 0 where none stand."""


def mark(number: int) -> str:
    """The character of a prompt's sound token."""
    return chr(FIRST_MARK + number)


def for_clip(tokenizer, rows: Rows):
    """A copy of a CLIP encoder's tokenizer that takes a mark for `embedding:<PLACEHOLDER><number>`."""
    tokenizer, without_files = copy.copy(tokenizer), copy.copy(tokenizer)
    without_files.embedding_directory = []
    core_lookup, core_tokenize = tokenizer._try_get_embedding, tokenizer.tokenize_with_weights
    if tokenizer.embedding_directory is None:
        tokenizer.embedding_directory = []

    def lookup(name: str):
        word = name.split()[0]
        if not word.startswith(PLACEHOLDER):
            return core_lookup(name)
        # Core's answer begins with the vectors in every version; what follows them differs.
        _, embedding = rows[int(word.removeprefix(PLACEHOLDER))]
        return (embedding, *without_files._try_get_embedding(name)[1:])

    def tokenize(text: str, *given, **options) -> list:
        # Spaces: core knows an embedding only as a word of its own.
        text = re.sub(_MARKS, lambda m: f" embedding:{PLACEHOLDER}{ord(m[0]) - FIRST_MARK} ", text)
        return core_tokenize(text, *given, **options)

    tokenizer._try_get_embedding, tokenizer.tokenize_with_weights = lookup, tokenize
    return tokenizer


def for_words(tokenizer, rows: Rows):
    """A copy of any other encoder's tokenizer, in whose token lists ids of `slots` stand for the marks."""
    tokenizer = copy.copy(tokenizer)
    tokenizer.tokenizer, core_tokenize = _Marked(tokenizer, slots(rows)), tokenizer.tokenize_with_weights
    name = rf"({re.escape(tokenizer.embedding_identifier)}[^\s{_RANGE}]+)(?={_MARKS})"

    def tokenize(text: str, *given, **options) -> list:
        # A space: core takes all up to the next one for an embedding's name. The mark takes it along.
        return core_tokenize(re.sub(name, r"\1 ", text), *given, **options)

    tokenizer.tokenize_with_weights = tokenize
    return tokenizer


def slots(rows: Rows) -> list[list[tuple[int, str, int]]]:
    """For each token its rows' stand-in ids, with the token's name and the row's number."""
    found, following = [], _FIRST_SLOT
    for name, vectors in rows:
        found.append([(following - i, name, i) for i in range(len(vectors))])
        following -= len(vectors)
    return found


class _Marked:
    """What a text encoder's tokenizer calls to split text, with slots' ids at the marks."""

    def __init__(self, outer, places: list[list[tuple[int, str, int]]]):
        self.inner, self.places = outer.tokenizer, places
        self.begin, self.end = outer.tokens_start, -1 if outer.tokenizer_adds_end_token else None

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def __call__(self, text: str, *given, **options) -> dict[str, list[int]]:
        if not re.search(_MARKS, text):
            return self.inner(text, *given, **options)
        ids: list[int] = []
        # A piece of these vocabularies begins with its space: a word that stands for one takes it along.
        for piece in re.split(f" ?({_MARKS})", text):
            if re.fullmatch(_MARKS, piece):
                ids += [slot for slot, _, _ in self.places[ord(piece) - FIRST_MARK]]
            elif piece:
                ids += following(self.plain, piece) if ids else self.plain(piece)
        # Core cuts these off again.
        return {"input_ids": [0] * self.begin + ids + [0] * (self.end is not None)}

    def plain(self, text: str) -> list[int]:
        """A text's ids without those that begin and end one."""
        return list(self.inner(text)["input_ids"][self.begin : self.end])


def word_ids(tokenizer, text: str) -> list[int]:
    """A text's ids in the middle of a sentence."""
    return following(_Marked(tokenizer, []).plain, f" {text}")


def filled(chunks: list, rows: Rows) -> list:
    """Core's chunks of (id, weight, ...) with the vectors [d] in place of the slots' ids."""
    vectors = {slot: rows[i][1][row] for i, held in enumerate(slots(rows)) for slot, _, row in held}
    return [[(vectors.get(e[0], e[0]), *e[1:]) if isinstance(e[0], int) else e for e in c] for c in chunks]


def token_ids_of_words(chunks: list, rows: Rows, pad: int | None, end: int | None) -> TokenIds:
    """The token ids in chunks that are not `filled` yet. Padding is what follows the end token, or the pad
    tokens at either side where there is none."""
    owners = {slot: (name, row) for held in slots(rows) for slot, name, row in held}
    token_ids: list = []
    for chunk in chunks:
        pieces = [entry for entry, *_ in chunk]
        first, last = 0, len(pieces)
        if end is not None and end in [p for p in pieces if isinstance(p, int)]:
            last = next(i for i, p in enumerate(pieces) if isinstance(p, int) and p == end) + 1
        elif end is None:
            padding = [isinstance(p, int) and p == pad for p in pieces]
            while last > first and padding[last - 1]:
                last -= 1
            while first < last and padding[first]:
                first += 1
        token_ids += [None] * first
        for piece in pieces[first:last]:
            if isinstance(piece, int):
                token_ids.append(owners.get(piece, piece))
            else:
                token_ids.append(_foreign(piece))
        token_ids += [None] * (len(pieces) - last)
    return tuple(token_ids)


def token_ids_of_clip(chunks: list, rows: Rows, end: int) -> TokenIds:
    """The token ids in a CLIP encoder's chunks of (id or vector, weight, ...), whose sound tokens' vectors
    are views of `rows`; what follows a chunk's end token is padding."""
    owners = {v.untyped_storage().data_ptr(): (name, v) for name, v in rows}
    token_ids: list = []
    for chunk in chunks:
        pieces = [entry for entry, *_ in chunk]
        read = len(pieces)
        for i, piece in enumerate(pieces):
            if not isinstance(piece, Tensor):
                token_ids.append(int(piece))
                if piece == end:
                    read = i + 1
                    break
                continue
            name, vectors = owners.get(piece.untyped_storage().data_ptr(), (None, None))
            if name is None:
                token_ids.append(_foreign(piece))
            else:
                row = (piece.storage_offset() - vectors.storage_offset()) // vectors.shape[-1]
                token_ids.append((name, row))
        token_ids += [None] * (len(pieces) - read)
    return tuple(token_ids)


def _foreign(piece: object) -> str:
    """A name for what is no word and no sound token: an embedding, or a picture."""
    values = piece.get("data") if isinstance(piece, Mapping) else piece
    return f"embedding {hash(tuple(values.flatten()[:8].tolist())) if torch.is_tensor(values) else id(piece)}"
