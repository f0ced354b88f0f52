"""Reference pictures: a sound finds in a library the pictures that it sounds like.

`index.index` makes a library of a folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import image
from ..errors import InputError
from .nearest import top

if TYPE_CHECKING:
    from .nearest import Inverted
    from .towers import VisualTower


@dataclass(frozen=True, eq=False)
class Library:
    """Pictures as a visual tower sees them: their names within `folder`, and features [N, dim] of length one.

    `file` is the index that the features are mapped from, None where they are in memory only; `fast` stands
    in for the plain product where there are very many.
    """

    tower: VisualTower
    folder: Path
    names: Sequence[str]
    features: Tensor
    file: Path | None = None
    fast: Inverted | None = None


@dataclass(frozen=True)
class Reference:
    """A picture of a library and its cosine to a sound."""

    path: Path
    score: float


def load_pictures(paths: Sequence[str | os.PathLike], size: int) -> Tensor:
    """Picture files of any sizes as [N, 3, size, size] in [0, 1], for encode_images and train_token."""
    if not paths:
        raise InputError("There are no reference pictures: name 3 to 5 or a folder of them.")
    return torch.stack([image.load(path, size) for path in paths])


def references(f_a: Tensor, library: Library, k: int = 4, sound: str = "") -> list[Reference]:
    """The k pictures of a library that a sound's embedding f_a [d] is nearest to, best first.

    `sound` is the sound's name, a file's for example: pictures of its own clip are left out (`is_own`).
    Raises InputError for another width than the library's, for k below 1, and where no other picture is left.
    """
    query = library.tower.query(f_a)
    _check(query, library.features, k)
    found = _best_of_candidates(query, library, k, sound) if library.fast else []
    if len(found) < k:
        found = _best(query, library, k, sound)
    if not found:
        raise InputError(
            f"Every picture in '{library.folder}' belongs to the sound's own clip ({sound}): add others."
        )
    return [Reference(library.folder / library.names[row], score) for row, score in found]


def is_own(picture: str, sound: str) -> bool:
    """Whether a picture (its path within the library) belongs to the clip that a sound is of.

    It does where it is called like the sound: `7.jpg` for `7.wav`. Where the sound's name has a digit in it,
    as a clip's id has, so do its frames (`7_03.jpg`, `7-03.jpg`) and all that lies in a folder of that name
    (`7/03.jpg`). A name without digits says what is heard, not which clip it is: `rain_1.jpg` may serve
    `rain.wav`.
    """
    clip = PurePosixPath(sound.replace("\\", "/")).stem.casefold()
    if not clip:
        return False
    path = PurePosixPath(picture.casefold())
    if path.stem == clip:
        return True
    if not any(letter.isdigit() for letter in clip):
        return False
    return path.stem.startswith((f"{clip}_", f"{clip}-")) or clip in path.parts[:-1]


def rank(f_a: Tensor, features: Tensor, k: int) -> tuple[list[int], list[float]]:
    """The k rows of features [N, dim], of length one, nearest to f_a [dim] by cosine, best first: their
    numbers and cosines.

    Rows of equal cosine keep their order. Raises InputError for other widths and for k below 1.
    """
    _check(f_a, features, k)
    rows, scores = top(features @ F.normalize(f_a.to(features), dim=-1), k)
    return rows.tolist(), scores.tolist()


def _check(f_a: Tensor, features: Tensor, k: int) -> None:
    if f_a.shape[-1] != features.shape[-1]:
        raise InputError(
            f"The sound embedding has {f_a.shape[-1]} numbers, the library's pictures {features.shape[-1]}: "
            "use the encoder that the library was made with."
        )
    if k < 1:
        raise InputError(f"{k} reference pictures cannot be chosen: take 1 or more; the method takes 3 to 5.")


def _best(query: Tensor, library: Library, k: int, sound: str) -> list[tuple[int, float]]:
    cosine, wanted = library.features @ query.to(library.features), k + 32
    while True:
        rows, scores = top(cosine, wanted)
        found = _others(rows, scores, library, k, sound)
        if len(found) == k or len(rows) == len(cosine):
            return found
        wanted *= 8


def _best_of_candidates(query: Tensor, library: Library, k: int, sound: str) -> list[tuple[int, float]]:
    candidates = library.fast.candidates(query, 4 * k)
    order, scores = top(library.features[candidates] @ query.to(library.features), len(candidates))
    return _others(candidates[order], scores, library, k, sound)


def _others(rows: Tensor, scores: Tensor, library: Library, k: int, sound: str) -> list[tuple[int, float]]:
    pairs = zip(rows.tolist(), scores.tolist())
    return [pair for pair in pairs if not is_own(library.names[pair[0]], sound)][:k]
