"""Sets of labelled recordings as they are published: ESC-50, ESC-10 and UrbanSound8K, or folders of classes.

ESC-50        meta/esc50.csv (filename, fold, category, esc10, ...), audio/1-100032-A-0.wav
UrbanSound8K  metadata/UrbanSound8K.csv (slice_file_name, fold, class, ...), audio/fold5/100032-3-0-0.wav
classes       dog_bark/1-30226-A.ogg: the number before the first "-", where all names have one, is the fold
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..audio import SUFFIXES
from ..errors import InputError
from ..files import is_dir, is_file

ESC50, URBANSOUND = "meta/esc50.csv", "metadata/UrbanSound8K.csv"
FOLD = re.compile(r"(\d{1,2})-")


@dataclass(frozen=True)
class Recording:
    """A sound file, its label in words, and its fold (0: none)."""

    path: Path
    label: str
    fold: int = 0


def read_recordings(
    folder: str | os.PathLike, folds: tuple[int, ...] | None = None, esc10: bool = False
) -> tuple[str, list[Recording]]:
    """The set's name and its recordings, in the order of its list; `folds` takes only some of them, `esc10`
    only the ten classes of ESC-10 within ESC-50.

    Raises InputError for a folder of another kind, a list without the columns it should have, a recording
    that is missing, folds that hold nothing, and a single class.
    """
    folder = Path(folder)
    if not is_dir(folder):
        raise InputError(f"There is no folder “{folder}”: give ESC-50's, UrbanSound8K's, or one of classes.")
    if is_file(folder / ESC50):
        name, found = "ESC-10" if esc10 else "ESC-50", _esc50(folder, esc10)
    elif is_file(folder / URBANSOUND):
        name, found = "UrbanSound8K", _urbansound(folder)
    else:
        name, found = folder.name, _classes(folder)
    if folds is not None:
        there = sorted({r.fold for r in found})
        found = [r for r in found if r.fold in folds]
        if not found:
            raise InputError(f"“{folder}” has no recordings of folds {folds}: it has folds {there}.")
    if len({r.label for r in found}) < 2:
        raise InputError(
            f"“{folder}” holds {len({r.label for r in found})} classes of recordings: give ESC-50's folder, "
            "UrbanSound8K's, or one with a subfolder for each of at least two classes."
        )
    return name, found


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacking:
                raise InputError(f"“{path}” has no column “{lacking[0]}”: take the list as it is published.")
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"“{path}” cannot be read ({error}): take the list as it is published.")


def _recording(path: Path, label: str, fold: str, source: Path) -> Recording:
    if not is_file(path):
        raise InputError(f"“{path}” is missing, which “{source.name}” lists: unpack the set again.")
    try:
        return Recording(path, label.replace("_", " "), int(fold))
    except ValueError:
        raise InputError(f"“{source}” gives “{fold}” as a fold: take the list as it is published.")


def _esc50(folder: Path, esc10: bool) -> list[Recording]:
    source = folder / ESC50
    rows = _rows(source, ("filename", "fold", "category", "esc10"))
    rows = [row for row in rows if not esc10 or row["esc10"].strip().lower() == "true"]
    return [_recording(folder / "audio" / r["filename"], r["category"], r["fold"], source) for r in rows]


def _urbansound(folder: Path) -> list[Recording]:
    source = folder / URBANSOUND
    return [
        _recording(
            folder / "audio" / f"fold{r['fold']}" / r["slice_file_name"], r["class"], r["fold"], source
        )
        for r in _rows(source, ("slice_file_name", "fold", "class"))
    ]


def _classes(folder: Path) -> list[Recording]:
    files = [
        path
        for group in sorted(path for path in folder.iterdir() if is_dir(path))
        for path in sorted(group.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    folds = [FOLD.match(path.name) for path in files]
    numbered = all(folds)
    return [
        Recording(path, path.parent.name.replace("_", " "), int(fold[1]) if numbered else 0)
        for path, fold in zip(files, folds)
    ]
