"""What `aai data prepare` is given: videos, or sounds and frames, with their labels in a list or as folders.

A list is VGGSound's csv (id, start second, label, split; or file, label), or any csv whose first line names
its columns. A file is found by its id wherever it lies below the source:

    ID_000012.mp4, ID_12.wav    the part from second 12 on, cut out already
    ID.mp4                      the whole video: its part is cut out here
    frames/ID/*.jpg, frame_3/ID.jpg, ID_3.jpg    pictures, for a sound or in place of the video's own
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from ..audio import SUFFIXES, VIDEOS
from ..errors import InputError
from ..files import is_dir, is_file
from .clips import PICTURES

COLUMNS = {
    "id": ("id", "youtube id", "youtubeid", "ytid", "video id", "video", "file", "filename", "path", "clip"),
    "start": ("start", "start second", "start seconds", "start time", "begin"),
    "label": ("label", "class", "category", "caption", "labels"),
    "split": ("split", "set", "train/test split", "subset"),
}
MISSING = "there is no sound or video of this id"
CUT = re.compile(r"(.+)_(\d{6})$")


@dataclass(frozen=True)
class Item:
    """A clip to be made. `media` is a sound or a video, heard from `start` seconds on; `pictures` stand in
    for the video's own. `why` says why there is nothing to make it of."""

    id: str
    label: str
    split: str = ""
    media: Path | None = None
    start: float = 0.0
    pictures: tuple[Path, ...] = ()
    why: str = ""


def find(source: Path, listed: Path | None = None, labels: Path | None = None) -> list[Item]:
    """The clips that a source holds, in the order of its list, or of its classes' names.

    `labels` is a file that names every label that may come (one a line, or VGGSound's stat.csv). A clip that
    cannot be made (no file, a label that is not in the list, an id that came before) has a `why`. Raises
    InputError for a missing source, a list with other columns, and one that names nothing.
    """
    if not is_dir(source):
        raise InputError(f"There is no folder “{source}”: give the folder that holds the videos or sounds.")
    if listed is None:
        lists = sorted(source.glob("*.csv"))
        listed = lists[0] if len(lists) == 1 else None
    found = _from_list(source, listed) if listed else _from_classes(source)
    if not found:
        raise InputError(
            f"“{listed or source}” names no clips: give folders of classes that hold videos or sounds, or a "
            "csv with --csv."
        )
    allowed = None if labels is None else {row[0].strip() for row in _read_csv(labels) if row}
    checked, seen = [], Counter()
    for number, item in enumerate(found, 1):
        id, why = item.id, item.why
        if not id:
            id, why = f"#{number}", "it has no id"
        elif seen[id]:
            id, why = f"{id}#{seen[id] + 1}", "its id stands in the list before"
        elif not item.label:
            why = "it has no label"
        elif allowed is not None and item.label not in allowed:
            why = f"its label is not in “{labels.name}”"
        seen[item.id] += 1
        checked.append(replace(item, id=id, why=why))
    return checked


def _read_csv(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file, skipinitialspace=True) if any(row)]
    except OSError as error:
        raise InputError(f"“{path}” cannot be read ({error.strerror}): check its name and folder.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"“{path}” is no csv file ({error}): save it as UTF-8 text with commas.")


def read_list(path: Path) -> list[tuple[str, float | None, str, str]]:
    """(id, start second or None, label, split) of every line of a csv.

    Raises InputError where the columns are not told by a first line and are not VGGSound's.
    """
    rows = _read_csv(path)
    if not rows:
        raise InputError(f"“{path}” is empty: give a csv with a line for each clip.")
    heads = [re.sub(r"[#_\s]+", " ", cell).strip().lower() for cell in rows[0]]
    places = {
        name: next((heads.index(known) for known in names if known in heads), None)
        for name, names in COLUMNS.items()
    }
    if places["id"] is not None and places["label"] is not None:
        rows = rows[1:]
    elif len(rows[0]) >= 3 and _number(rows[0][1]) is not None:
        places = {"id": 0, "start": 1, "label": 2, "split": 3 if len(rows[0]) > 3 else None}
    elif len(rows[0]) == 2 and Path(rows[0][0]).suffix.lower() in SUFFIXES:
        places = {"id": 0, "start": None, "label": 1, "split": None}
    else:
        raise InputError(
            f"“{path}” has the columns {', '.join(rows[0])}: give id, start second, label, split as VGGSound "
            "does, or a first line that names “id” and “label”."
        )

    def cell(row: list[str], name: str) -> str:
        place = places[name]
        return "" if place is None or place >= len(row) else row[place].strip()

    return [
        (cell(row, "id"), _number(cell(row, "start")), cell(row, "label"), cell(row, "split")) for row in rows
    ]


def _number(text: str) -> float | None:
    """None where it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _from_list(source: Path, listed: Path) -> list[Item]:
    media, frames = _index(source)
    items = []
    for name, start, label, split in read_list(listed):
        key = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
        # VGGSound's test.csv has the start in the name already.
        cut = CUT.match(key) if start is None else None
        whole, second = (cut[1], float(cut[2])) if cut else (key, start or 0.0)
        parts = [key] if start is None else [f"{key}_{int(start):06d}", f"{key}_{int(start)}"]
        own = parts[0]
        path = next((media[part] for part in parts if part in media), None)
        pictures = next((frames[part] for part in [*parts, whole] if part in frames), ())
        offset = 0.0
        if path is None and whole in media:
            path, offset = media[whole], second
        why = "" if path else MISSING
        items.append(Item(_safe(own), label, split, path, offset, tuple(map(Path, pictures)), why))
    return items


def _from_classes(source: Path) -> list[Item]:
    items = []
    for group in sorted(path for path in source.iterdir() if is_dir(path) and path.name[0] != "."):
        files = sorted(path for path in group.iterdir() if is_file(path) and path.name[0] != ".")
        pictures = [path for path in files if path.suffix.lower() in PICTURES]
        for path in (path for path in files if path.suffix.lower() in SUFFIXES):
            own = [p for p in pictures if p.stem == path.stem or p.stem.startswith(f"{path.stem}_")]
            shown = own if path.suffix.lower() in VIDEOS else own or pictures
            label = group.name.replace("_", " ")
            items.append(Item(_safe(f"{group.name}_{path.stem}"), label, "", path, 0.0, tuple(shown)))
    return items


def _safe(id: str) -> str:
    """An id as a name for files: a shard's members are told apart up to the first dot."""
    return re.sub(r"[^\w-]+", "_", id)[:150]


def _index(source: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Sounds and videos by their names, and pictures by whatever of theirs may be an id."""
    media: dict[str, Path] = {}
    frames: dict[str, list[str]] = defaultdict(list)
    for folder, folders, names in os.walk(source):
        folders[:] = sorted((name for name in folders if name[0] != "."), key=_natural)
        for name in sorted(names, key=_natural):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                media.setdefault(stem, Path(folder, name))
            elif suffix.lower() in PICTURES:
                for key in {os.path.basename(folder), stem, stem.rpartition("_")[0]} - {""}:
                    frames[key].append(os.path.join(folder, name))
    return media, frames


def _natural(name: str) -> list:
    """frame_10 comes after frame_9."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]
