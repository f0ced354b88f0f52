"""Reference pictures: a folder becomes a library, and a sound finds in it the pictures that it sounds
like."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import image
from ..errors import InputError

if TYPE_CHECKING:
    from ..align.encoder import SoundEncoder

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Library:
    """Pictures and their features [N, dim], of length one."""

    paths: tuple[Path, ...]
    features: Tensor


@dataclass(frozen=True)
class Reference:
    """A picture of a library and its cosine to a sound."""

    path: Path
    score: float


def picture_paths(folder: str | os.PathLike) -> list[Path]:
    """The picture files in a folder and the folders below it, by name. Raises InputError where there is
    none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder of pictures '{folder}': check its name.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"The folder '{folder}' holds no pictures: put some in it ({', '.join(SUFFIXES)}).")
    return found


def load_pictures(paths: Sequence[str | os.PathLike], size: int) -> Tensor:
    """Picture files of any sizes as [N, 3, size, size] in [0, 1], for encode_images and train_token."""
    if not paths:
        raise InputError("There are no reference pictures: name 3 to 5 or a folder of them.")
    return torch.stack([image.load(path, size) for path in paths])


def index(
    folder: str | os.PathLike,
    encoder: SoundEncoder,
    batch: int = 32,
    callback: Callable[[int, int], None] | None = None,
) -> Library:
    """A folder's pictures as the encoder sees them; files that are no pictures are left out, with a warning.

    callback(done, total) may raise to cancel. Raises InputError where no picture is left.
    """
    paths = picture_paths(folder)
    size = getattr(encoder, "image_size", 224)
    kept: list[Path] = []
    features: list[Tensor] = []
    for start in range(0, len(paths), batch):
        images = []
        for path in paths[start : start + batch]:
            try:
                images.append(image.load(path, size))
            except InputError as error:
                log.warning("%s", error)
            else:
                kept.append(path)
        if images:
            features.append(encoder.embed_images(torch.stack(images)).detach().float().cpu())
        if callback is not None:
            callback(min(start + batch, len(paths)), len(paths))
    if not kept:
        raise InputError(f"None of the {len(paths)} pictures in '{folder}' can be read: put others in it.")
    return Library(tuple(kept), F.normalize(torch.cat(features), dim=-1))


def rank(f_a: Tensor, features: Tensor, k: int) -> tuple[list[int], list[float]]:
    """The k rows of features [N, dim] nearest to f_a [dim] by cosine, best first: their numbers and cosines.

    Rows of equal cosine keep their order. Raises InputError for other widths and for k below 1.
    """
    if f_a.shape[-1] != features.shape[-1]:
        raise InputError(
            f"The sound embedding has {f_a.shape[-1]} numbers, the library's pictures {features.shape[-1]}: "
            "use the encoder that the library was made with."
        )
    if k < 1:
        raise InputError(f"{k} reference pictures cannot be chosen: take 1 or more; the method takes 3 to 5.")
    cosine = F.normalize(features.float(), dim=-1) @ F.normalize(f_a.to(features).float(), dim=-1)
    scores, rows = cosine.sort(descending=True, stable=True)
    return rows[:k].tolist(), scores[:k].tolist()


def references(f_a: Tensor, library: Library, k: int = 4) -> list[Reference]:
    """The k pictures of a library that a sound's embedding f_a [dim] is nearest to, best first."""
    rows, scores = rank(f_a, library.features, k)
    return [Reference(library.paths[row], score) for row, score in zip(rows, scores)]
