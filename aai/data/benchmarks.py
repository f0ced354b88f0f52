"""Sets of labelled recordings as they are published: ESC-50, ESC-10 and UrbanSound8K, or folders of classes.

ESC-50        meta/esc50.csv (filename, fold, category, esc10, ...), audio/1-100032-A-0.wav
UrbanSound8K  metadata/UrbanSound8K.csv (slice_file_name, fold, class, ...), audio/fold5/100032-3-0-0.wav
either        as mirrors (Kaggle) lay them out: the list at the top, the sounds beside it, in
              audio/ or audio/audio/, in fold5/, all of it perhaps in one folder more
classes       dog_bark/1-30226-A.ogg: the number before the first "-", where all names have one, is the fold;
              in fold3/dog_bark/ it is 3; train/dog_bark/ and test/dog_bark/ are one class
"""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .. import audio
from ..errors import InputError
from ..files import Unreadable, is_dir, is_file, read_text, walk
from .class_folders import class_folders
from .names import FOLD, label_of

ESC50, URBANSOUND = "meta/esc50.csv", "metadata/UrbanSound8K.csv"
IN_NAME = re.compile(r"(\d{1,2})-")


@dataclass(frozen=True)
class Recording:
    """A sound file, its label in words, and its fold (0: none)."""

    path: Path
    label: str
    fold: int = 0

    def load_sound(self) -> audio.Sound:
        """The whole sound. Raises InputError where it cannot be read."""
        return audio.load(self.path)


def read_recordings(
    folder: str | os.PathLike, folds: tuple[int, ...] | None = None, esc10: bool = False
) -> tuple[str, list[Recording]]:
    """The set's name and its recordings, in the order of its list; `folds` takes only some of them, `esc10`
    only the ten classes of ESC-10 within ESC-50.

    Raises InputError for a folder of another kind, a list without the columns it should have, a recording
    that is missing, a fold that there is not, ESC-10 of another set than ESC-50, folds or splits without
    classes, and a single class.
    """
    folder = Path(folder)
    if not is_dir(folder):
        raise InputError(f"There is no folder '{folder}': give ESC-50's, UrbanSound8K's, or one of classes.")
    listed = _published(folder)
    if esc10 and (listed is None or listed.name != Path(ESC50).name):
        raise InputError(
            f"ESC-10 is a part of ESC-50, which '{folder}' is not: give ESC-50's folder, or take all classes "
            "of this one."
        )
    if listed is None:
        name, recordings = folder.name, _classes(folder)
    elif listed.name == Path(ESC50).name:
        name, recordings = "ESC-10" if esc10 else "ESC-50", _esc50(listed, esc10)
    else:
        name, recordings = "UrbanSound8K", _urbansound(listed)
    if folds is not None:
        there = sorted({r.fold for r in recordings})
        missing = [fold for fold in folds if fold not in there]
        if missing:
            has = "no folds" if there == [0] else f"the folds {', '.join(map(str, there))}"
            raise InputError(f"'{folder}' has no fold {missing[0]}: it has {has}, so name others or none.")
        recordings = [r for r in recordings if r.fold in folds]
    classes = len({r.label for r in recordings})
    if classes < 2:
        raise InputError(
            f"'{folder}' holds {classes} classes of recordings: give ESC-50's folder, "
            "UrbanSound8K's, or one with a subfolder for each of at least two classes."
        )
    return name, recordings


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, "utf-8-sig"), newline=""))
        lacking = [column for column in columns if column not in (reader.fieldnames or ())]
        if lacking:
            raise InputError(f"'{path}' has no column '{lacking[0]}': take the list as it is published.")
        rows = list(reader)
    except (Unreadable, csv.Error) as error:
        raise InputError(f"'{path}' cannot be read ({error}): take the list as it is published.")
    short = next((n for n, row in enumerate(rows, 2) if any(row[c] is None for c in columns)), None)
    if short:
        raise InputError(f"Line {short} of '{path}' is cut short: take the list as it is published.")
    return rows


def _published(folder: Path) -> Path | None:
    """The list of ESC-50 or UrbanSound8K: in its place, at the top, or in the one folder that holds the set.

    Raises InputError where several folders hold one.
    """
    for listed in (ESC50, URBANSOUND):
        for place in (folder / listed, folder / Path(listed).name):
            if is_file(place):
                return place
    within = [
        p for s in (ESC50, URBANSOUND) for n in (s, Path(s).name) for p in sorted(folder.glob(f"*/{n}"))
    ]
    if len(within) > 1:
        raise InputError(
            f"'{folder}' holds several sets ('{within[0]}', '{within[1]}'): give the folder of one."
        )
    return within[0] if within else None


def _recordings(listed: Path, rows: list[tuple[str, str, str]], published: str) -> list[Recording]:
    """The recordings of (file name, label, fold), in the folder that is `published` or wherever they lie."""
    set_of = listed.parent.parent if listed.parent.name in ("meta", "metadata") else listed.parent
    there: dict[str, list[Path]] | None = None
    recordings = []
    for name, label, fold in rows:
        if not name.strip() or Path(name).name != name:
            raise InputError(f"'{listed}' names a file '{name}': take the list as it is published.")
        try:
            number = int(fold)
        except ValueError:
            raise InputError(f"'{listed}' gives '{fold}' as a fold: take the list as it is published.")
        path = set_of / published.format(fold=number) / name
        if not is_file(path):
            there = _by_name(set_of) if there is None else there
            path = _nearest(there.get(name, []), number, path, listed)
        recordings.append(Recording(path, label_of(label), number))
    return recordings


def _nearest(paths: list[Path], fold: int, published: Path, listed: Path) -> Path:
    """The recording of that name in no other fold's folder; of copies, the one with the fewest folders above
    it (a mirror of ESC-50 keeps some at other rates in deeper ones)."""
    folds = [FOLD.fullmatch(path.parent.name) for path in paths]
    paths = [path for path, own in zip(paths, folds) if not own or int(own[1]) == fold]
    if not paths:
        raise InputError(f"'{published}' is missing, which '{listed.name}' lists: unpack the set again.")
    depth = min(len(path.parts) for path in paths)
    nearest = [path for path in paths if len(path.parts) == depth]
    if len(nearest) > 1:
        raise InputError(f"'{nearest[0]}' is there twice, as '{nearest[1]}' too: keep one of them.")
    return nearest[0]


def _by_name(folder: Path) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {}
    for entry in walk(folder):
        paths.setdefault(entry.name, []).append(Path(entry.path))
    return paths


def _esc50(listed: Path, esc10: bool) -> list[Recording]:
    rows = _rows(listed, ("filename", "fold", "category", "esc10"))
    rows = [row for row in rows if not esc10 or row["esc10"].strip().lower() == "true"]
    return _recordings(listed, [(row["filename"], row["category"], row["fold"]) for row in rows], "audio")


def _urbansound(listed: Path) -> list[Recording]:
    rows = _rows(listed, ("slice_file_name", "fold", "class"))
    named = [(row["slice_file_name"], row["class"], row["fold"]) for row in rows]
    return _recordings(listed, named, "audio/fold{fold}")


def _classes(folder: Path) -> list[Recording]:
    files = [(path, group) for group in class_folders(folder) for path in group.sounds]
    folds = [IN_NAME.match(path.name) for path, _ in files]
    if files and all(FOLD.fullmatch(group.split) for _, group in files):
        folds = [FOLD.fullmatch(group.split) for _, group in files]
    numbered = all(folds)
    return [
        Recording(path, group.label, int(fold[1]) if numbered else 0)
        for (path, group), fold in zip(files, folds)
    ]
