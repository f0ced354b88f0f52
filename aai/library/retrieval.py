"""Retrieving reference pictures: those of a library whose embeddings are nearest to a sound's.

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
from ..errors import InputError, encodable
from .nearest import top

if TYPE_CHECKING:
    from .nearest import Inverted
    from .towers import VisualTower


@dataclass(frozen=True, eq=False)
class Library:
    """Pictures embedded by a visual tower: their names within `folder`, and features [N, dim] of length one.

    `file` is the index that the features are mapped from, None where they are in memory only; `fast` replaces
    the plain product where there are very many.
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


@dataclass(frozen=True)
class Retrieval:
    """The pictures retrieved for a sound, best first, and the names of the nearer ones that were left out
    since they belong to its own `clip`."""

    references: list[Reference]
    left_out: list[str]
    clip: str = ""

    @property
    def note(self) -> str:
        """One sentence on what was left out; "" where nothing was."""
        if not self.left_out:
            return ""
        count, first = len(self.left_out), encodable(self.left_out[0])
        which = f"'{first}' is" if count == 1 else f"{count} pictures ('{first}' for one) are"
        return (
            f"{which} left out as the sound's own clip '{encodable(self.clip)}', to judge by its name: "
            "rename the sound or the picture to use it all the same."
        )


def load_pictures(paths: Sequence[str | os.PathLike], size: int) -> Tensor:
    """Picture files of any sizes as [N, 3, size, size] in [0, 1], for encode_images and train_token."""
    if not paths:
        raise InputError("There are no reference pictures: name 3 to 5 or a folder of them.")
    return torch.stack([image.load(path, size) for path in paths])


def references(f_a: Tensor, library: Library, k: int = 4, clip: str = "") -> list[Reference]:
    """The pictures that `retrieve` finds."""
    return retrieve(f_a, library, k, clip).references


def retrieve(f_a: Tensor, library: Library, k: int = 4, clip: str = "") -> Retrieval:
    """The k pictures of a library that a sound's embedding f_a [d] is nearest to, best first.

    `clip` is the name of the clip that the sound is from (`clip_of` a file's name): its own
    pictures are left out (`is_own`). Raises InputError for another width than the library's, for k below 1,
    for values that are not numbers, and where no other picture is left.
    """
    query = library.tower.query(f_a)
    _check(query, library.features, k)
    chosen, own = _best_of_candidates(query, library, k, clip) if library.fast else ([], [])
    if len(chosen) < k:
        chosen, own = _best(query, library, k, clip)
    if not chosen:
        raise InputError(
            f"Every picture in '{library.folder}' belongs to the sound's own clip ({clip}): add others."
        )
    return Retrieval(
        [Reference(library.folder / library.names[row], score) for row, score in chosen], own, clip
    )


def clip_of(sound: str) -> str:
    """The clip that a sound file is from, judging by its name: its stem where that has a digit in it, as a
    clip's id has (`7.wav`, `dQw4w9WgXcQ_000030.wav`), else "".

    A name without digits describes the sound, and so does a picture's: `thunder.jpg` is meant for
    `thunder.wav`.
    """
    stem = PurePosixPath(sound.replace("\\", "/")).stem
    return stem if any(letter.isdigit() for letter in stem) else ""


def is_own(picture: str, sound: str, folder: str = "") -> bool:
    """Whether a picture (its path within the library) belongs to the clip that a sound is of. Where clips of
    several classes have its name, `folder`, that of its class, is to be among the picture's.

    It does where it is called like the sound: `7.jpg` for `7.wav`. Where the sound's name has a digit in it,
    as a clip's id has, so do its frames (`7_03.jpg`, `7-03.jpg`) and all that lies in a folder of that name
    (`7/03.jpg`). A name without digits describes the sound, not the clip: `rain_1.jpg` may serve
    `rain.wav`.
    """
    clip = PurePosixPath(sound.replace("\\", "/")).stem.casefold()
    if not clip:
        return False
    path = PurePosixPath(picture.casefold())
    if folder and folder.casefold() not in path.parts[:-1]:
        return False
    if path.stem == clip:
        return True
    if not any(letter.isdigit() for letter in clip):
        return False
    return path.stem.startswith((f"{clip}_", f"{clip}-")) or clip in path.parts[:-1]


def rank(f_a: Tensor, features: Tensor, k: int) -> tuple[list[int], list[float]]:
    """The k rows of features [N, dim], of length one, nearest to f_a [dim] by cosine, best first: their
    numbers and cosines.

    Rows of equal cosine keep their order. Raises InputError for other widths, for k below 1, and for values
    that are not numbers.
    """
    _check(f_a, features, k)
    rows, scores = top(_cosines(F.normalize(f_a.to(features), dim=-1), features), k)
    return rows.tolist(), scores.tolist()


def _check(f_a: Tensor, features: Tensor, k: int) -> None:
    if f_a.shape[-1] != features.shape[-1]:
        raise InputError(
            f"The sound embedding has {f_a.shape[-1]} numbers, the library's pictures {features.shape[-1]}: "
            "use the encoder that the library was made with."
        )
    if k < 1:
        raise InputError(f"{k} reference pictures cannot be chosen: take 1 or more; the method takes 3 to 5.")


def _cosines(query: Tensor, features: Tensor, library: Library | None = None) -> Tensor:
    """[N]. Raises InputError where one is not finite, since those have no order."""
    cosines = features @ query.to(features)
    if not cosines.isfinite().all():
        if not query.isfinite().all():
            raise InputError(
                "The sound's embedding holds values that are not numbers: encode the sound again."
            )
        whose = f"'{library.file}' holds" if library and library.file else "The library's pictures have"
        raise InputError(f"{whose} features that are not numbers: delete the index, and it is made again.")
    return cosines


def _best(query: Tensor, library: Library, k: int, clip: str) -> tuple[list[tuple[int, float]], list[str]]:
    cosine, wanted = _cosines(query, library.features, library), k + 32
    while True:
        rows, scores = top(cosine, wanted)
        chosen, own = _others(rows, scores, library, k, clip)
        if len(chosen) == k or len(rows) == len(cosine):
            return chosen, own
        wanted *= 8


def _best_of_candidates(
    query: Tensor, library: Library, k: int, clip: str
) -> tuple[list[tuple[int, float]], list[str]]:
    candidates = library.fast.candidates(query, 4 * k)
    order, scores = top(_cosines(query, library.features[candidates], library), len(candidates))
    return _others(candidates[order], scores, library, k, clip)


def _others(
    rows: Tensor, scores: Tensor, library: Library, k: int, clip: str
) -> tuple[list[tuple[int, float]], list[str]]:
    """The first k rows that are not the clip's own, with their scores, and the names of those that are and
    came before."""
    chosen, own = [], []
    for row, score in zip(rows.tolist(), scores.tolist()):
        if is_own(library.names[row], clip):
            own.append(library.names[row])
        else:
            chosen.append((row, score))
        if len(chosen) == k:
            break
    return chosen, own
