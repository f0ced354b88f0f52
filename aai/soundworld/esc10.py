"""ESC-10's recordings (Piczak, 2015): a folder for each class, its files called `FOLD-ID-TAKE.ogg`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .world import ESC10


def recordings(folder: Path, folds: Sequence[int]) -> Iterator[tuple[str, Path]]:
    """(event, path) of every recording of some folds whose class SoundWorld has: class by class, fold by
    fold."""
    for name, event in ESC10.items():
        for path in of_class(folder / name, folds):
            yield event, path


def strangers(folder: Path, fold: int) -> list[Path]:
    """The recordings of a fold whose class SoundWorld has no word for."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in ESC10)
    return [path for name in classes for path in of_class(name, (fold,))]


def of_class(folder: Path, folds: Sequence[int]) -> list[Path]:
    """The recordings of some folds in a class's folder."""
    return [path for fold in folds for path in sorted(folder.glob(f"{fold}-*.ogg"))]
