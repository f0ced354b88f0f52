"""Labels and splits as folders, lists and shards write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..errors import InputError

SPLITS = {name: name for name in ("train", "test", "val", "dev", "eval")}
SPLITS |= {"training": "train", "testing": "test", "valid": "val", "validation": "val", "evaluation": "eval"}
"""{name in small letters: name of the split}."""
MEASURED = ("test", "eval", "val", "dev")
"""The splits to measure on, the likeliest first."""
FOLD = re.compile(r"fold[ _-]?(\d{1,2})", re.IGNORECASE)


def label_of(text: str) -> str:
    """A label in words: composed, without underscores and needless spaces."""
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split())


def natural(name: str) -> list:
    """A key to sort names by: frame_10 comes after frame_9."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def split_of(text: str) -> str:
    """A split's name, whatever its case; another word than those of SPLITS stays as it is."""
    text = text.strip()
    return SPLITS.get(text.casefold(), text)


def check_alike(labels: Iterable[str], where: object) -> None:
    """Raises InputError where two labels differ in nothing but capitals: to a text encoder they are one word,
    and a sound would be as near to the one as to the other."""
    seen: dict[str, str] = {}
    for label in sorted(set(labels)):
        if (other := seen.setdefault(label.casefold(), label)) != label:
            raise InputError(
                f"'{where}' has the labels '{other}' and '{label}', which are one to a text encoder: give "
                "them one name."
            )
