"""Folders of classes: a subfolder for each, with its sounds and pictures, perhaps below train/ and test/.

A picture called like a sound belongs to it (`pictures_by_sound`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import image
from ..audio import SUFFIXES
from ..errors import InputError
from ..files import is_dir, is_file
from .names import FOLD, SPLITS, label_of, natural

PICTURES = image.suffixes()


@dataclass(frozen=True)
class ClassFolder:
    """A folder with the sounds of one class, or with a part of them, as of one day, within the class's own
    folder `above`; `split` is "" where it lies in no split's folder."""

    path: Path
    label: str
    split: str = ""
    above: Path | None = None

    @property
    def sounds(self) -> list[Path]:
        """The sound and video files directly in it, by name."""
        return _files(self.path, SUFFIXES)

    @property
    def pictures(self) -> list[Path]:
        """The picture files directly in it, by name, frame_10 after frame_9, so that a clip's lie in order of
        time; where it has none, those of the folder above."""
        own = _files(self.path, PICTURES) or (_files(self.above, PICTURES) if self.above else [])
        return sorted(own, key=lambda path: natural(path.name))


def class_folders(folder: Path) -> list[ClassFolder]:
    """The folders of classes within a folder, in the order of their names.

    `train/`, `test/` and the like (SPLITS), and `fold1/` ..., are not classes: they contain classes, or lie
    within them. Only "train" beside other classes is one, the sound of a train. Folders within a class that
    has sounds, as of days, belong to it. Raises InputError for a split or a fold with sounds directly in it,
    a folder without sounds whose own folders have some and are no splits, and a folder that cannot be read.
    """
    groups = [(path, _holds_sounds(path), _subfolders(path)) for path in _subfolders(folder)]
    plain = any(direct and not _split(path) for path, direct, _ in groups)
    splits = [
        path for path, direct, inner in groups if _split(path) and (direct or any(map(_holds_sounds, inner)))
    ]
    classes = []
    for path, direct, inner in groups:
        split = _split(path)
        if split and direct and not (plain and path.name.lower() == "train" and len(splits) == 1):
            kind = "fold" if FOLD.fullmatch(path.name) else "split"
            keep = ", or go by the set's own list" if kind == "fold" else ""
            raise InputError(
                f"'{path}' is a {kind} and no class, but has sounds directly in it: make a subfolder of it "
                f"for each class{keep}."
            )
        if split and not direct:
            for part in inner:
                classes += _class(part, None, split)
            continue
        classes += _class(path, [part for part in inner if not _split(part)])
        for part in inner:
            if _split(part):
                classes += [replace(one, label=_label_of(path)) for one in _class(part, None, _split(part))]
    return classes


def _class(path: Path, within: list[Path] | None, split: str = "") -> Iterator[ClassFolder]:
    """A class's folder, if it has sounds, and those of its folders (all, else `within`) that have. Raises
    InputError where only these have."""
    real = Path(os.path.realpath(path))
    visited = {real, *real.parents}
    parts = [
        part for top in (_subfolders(path) if within is None else within) for part in _parts(top, visited)
    ]
    if not _holds_sounds(path):
        if parts:
            raise InputError(
                f"'{path}' has sounds in '{parts[0].name}' and none directly in it: put them into it if it "
                "is a class, or give it as the data set if its folders are."
            )
        return
    yield ClassFolder(path, _label_of(path), split)
    for part in parts:
        yield ClassFolder(part, _label_of(path), split, path)


def _parts(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """A folder and those within it, those that have sounds and are not among the `visited`: a link may lead
    back to where it is."""
    real = Path(os.path.realpath(folder))
    if real in visited:
        return
    visited.add(real)
    if _holds_sounds(folder):
        yield folder
    for part in _subfolders(folder):
        yield from _parts(part, visited)


def _split(folder: Path) -> str:
    name = folder.name.lower()
    return name if FOLD.fullmatch(name) else SPLITS.get(name, "")


def _label_of(folder: Path) -> str:
    """A folder's name as words; bytes that are not UTF-8 are replaced."""
    return label_of(os.fsencode(folder.name).decode(errors="replace"))


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in _contents(folder) if is_dir(path)]


def _holds_sounds(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES and is_file(path) for path in _contents(folder))


def _files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return [path for path in _contents(folder) if path.suffix.lower() in suffixes and is_file(path)]


def _contents(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, in the order of its names."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"'{folder}' cannot be read ({error.strerror}): check whose it is.")


def pictures_by_sound(sounds: list[Path], pictures: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Each sound of a folder with the pictures that are called like it: `7.jpg` and `7_*.jpg` are those of
    `7.wav`, but `7_1.jpg` is that of `7_1.wav` where there is one."""
    own: dict[str, list[Path]] = {sound.stem: [] for sound in sounds}
    for picture in pictures:
        name = picture.stem
        while name and name not in own:
            name = name.rpartition("_")[0]
        if name:
            own[name].append(picture)
    for sound in sounds:
        yield sound, own[sound.stem]
