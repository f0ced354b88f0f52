"""The weight of any word of a prompt, for prompts of any text encoder.

What a word is to a picture is what the prompt has that the same prompt without the word has not. So its
weight s moves the value rows from those of the prompt without it (0) to its own (1) and as far again beyond
(2), v_without + s (v - v_without), at every place, wherever the text encoder has carried the word; the word's
own rows, which the other prompt does not have, are scaled. The keys stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..picture.model import Conditioning
from ..prompt import Prompt, TokenIds


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
    """The prompt without words, phrases or sound tokens of these names, and which of them it has. Capitals do
    not count, and no part of another word is taken."""
    found, text = set(), ""
    for piece in prompt.pieces():
        if not isinstance(piece, str):
            if piece.name in words:
                found.add(piece.name)
                text = text.rstrip()
            else:
                text += f"<{piece.name}>"
            continue
        for word in words:
            if word:
                piece, count = re.subn(_pattern(word), "", piece, flags=re.IGNORECASE)
                if count:
                    found.add(word)
        text += re.sub("([*\uff0a<])", r"\\\1", piece)
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


def _pattern(word: str) -> str:
    """A word with the space in front of it. Letters of scripts without spaces have no borders."""
    before = r"(?<![A-Za-z0-9])" if word[0].isascii() and word[0].isalnum() else ""
    behind = r"(?![A-Za-z0-9])" if word[-1].isascii() and word[-1].isalnum() else ""
    return rf"\s*{before}{re.escape(word)}{behind}"
