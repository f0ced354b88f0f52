"""The weight of any word of a prompt, for prompts of any text encoder.

What a word is to a picture is what the prompt has that the same prompt without the word has not. So its
weight s moves what the picture's queries find from the text without it (0) to the whole one (1) and as far
again beyond (2), o_without + s (o - o_without), in every layer: 0 is the picture of the prompt without the
word. The text without it runs through the model in a row of its own beside the picture's, since encoders that
read both ways, and the layers of a transformer, spread a word over all of its neighbours.

In a U-Net, whose text the layers do not change, the value rows alone move so, at no cost, under the keys of
the whole prompt; the word's own rows, which the other prompt does not have, are scaled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..picture.model import Conditioning
from ..prompt import Prompt, TokenIds, index_projection

EMBEDDING = re.compile(r"(embedding:\S+)", re.IGNORECASE)
"""How a prompt in ComfyUI names an embedding."""
EMPTY = re.compile(r"\s*(?<!\\)\(\s*(?::\s*[\d.]+\s*)?\)")
"""A weight of no words."""


@dataclass(frozen=True)
class WordScale:
    """Words, or sound tokens by their names, and their weight.

    scales: in [0, 2], one for every picture, or one for each. without: {a prompt's token ids: the
    conditioning of the prompt without the words}, of the prompts that have them.
    """

    words: tuple[str, ...]
    scales: tuple[float, ...]
    without: Mapping[TokenIds, Conditioning]

    def of(self, picture: int) -> float:
        """The scale of a picture, by its number."""
        return self.scales[picture % len(self.scales)]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.without) and any(scale != 1.0 for scale in self.scales)


def without_words(prompt: Prompt, words: Sequence[str]) -> tuple[Prompt, set[str]]:
    """The prompt without words, phrases or sound tokens of these names, and which of them it has. A token's
    name is the token alone, though the plain word may stand there too. Capitals do not count, and no part of
    another word, or of an embedding's name, is taken. A weight that then has no words, "(:1.3)", goes too."""
    found, text, names = set(), "", {token.name for token in prompt.used()}
    for piece in prompt.pieces():
        if not isinstance(piece, str):
            if piece.name in words:
                found.add(piece.name)
                text = text.rstrip()
            else:
                text += f"<{piece.name}>"
            continue
        for word in words:
            if word and word not in names:
                shorter = _without_word(piece, word)
                if shorter != piece:
                    piece = shorter
                    found.add(word)
        text += re.sub("([*\uff0a<])", r"\\\1", piece)
    while (fewer := EMPTY.sub("", text)) != text:
        text = fewer
    return Prompt(text.strip() if found else prompt.text, prompt.tokens), found


def check_words(found: set[str], words: Sequence[str], known: Sequence[str]) -> None:
    """Raises InputError for a word that no prompt has; `known` are the sound tokens' names."""
    missing = next((word for word in words if word not in found), None)
    if missing is not None:
        there = ", ".join(f"<{name}>" for name in known) or "none"
        raise InputError(
            f"The prompt has neither a sound token <{missing}> (there is {there}) nor the word '{missing}': "
            "write a word as the prompt has it."
        )


def values_at(scale: float, whole: TokenIds, without: TokenIds, own: Tensor, other: Tensor) -> Tensor:
    """A prompt's value rows, or what they are made from linearly, [T, d] of its own and of the prompt without
    some words: from the other's (0) to its own (1) and beyond. What the other does not have is scaled alone;
    padding that it does not have stays."""
    places = aligned(without, whole)
    kept = [1.0 if i < 0 and piece is None else scale for piece, i in zip(whole, places)]
    given = [1.0 - weight if i >= 0 else 0.0 for weight, i in zip(kept, places)]
    place = torch.tensor([max(i, 0) for i in places], device=other.device)
    return own * own.new_tensor(kept)[:, None] + other[place] * other.new_tensor(given)[:, None]


def aligned(source: TokenIds, edited: TokenIds) -> tuple[int, ...]:
    """IndexProj (eq. 7), and beyond it the pieces that stand between the same neighbours in both prompts, in
    order: for each place of `edited` that of the value row that stood there in `source`, or -1."""
    projection = list(index_projection(source, edited))
    stop = next((i for i in range(len(source), 0, -1) if source[i - 1] is not None), 0)
    before = next((i for i, piece in enumerate(source) if piece is not None), 0) - 1
    for j, i in enumerate(projection):
        if i >= 0:
            before = i
            continue
        if edited[j] is None:
            continue
        following = next((p for p in projection[j + 1 :] if p >= 0), stop)
        if before + 1 < min(following, stop):
            before += 1
            projection[j] = before
    return tuple(projection)


def _without_word(text: str, word: str) -> str:
    parts = re.split(EMBEDDING, text) if EMBEDDING.fullmatch(word) is None else [text]
    # Every other part is an embedding's name.
    parts[::2] = [re.sub(_pattern(word), "", part, flags=re.IGNORECASE) for part in parts[::2]]
    return "".join(parts)


def _pattern(word: str) -> str:
    """A word with the space in front of it. Letters of scripts without spaces have no borders."""
    before = r"(?<![A-Za-z0-9])" if word[0].isascii() and word[0].isalnum() else ""
    behind = r"(?![A-Za-z0-9])" if word[-1].isascii() and word[-1].isalnum() else ""
    return rf"\s*{before}{re.escape(word)}{behind}"
