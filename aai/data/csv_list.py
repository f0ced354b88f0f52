"""Lists of clips: csv files with a line for each, as VGGSound, AudioSet and others publish them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..audio import SUFFIXES
from ..errors import InputError
from .clips import is_plain
from .names import SPLITS, label_of, split_of

COLUMNS = {
    # A path says more than an id, and a class's name more than its number.
    "id": (
        *("path", "filepath", "file path", "relative path", "file", "filename", "file name", "fname"),
        *("slice file name", "audio file", "audio filename", "audio file name", "audio path", "audio"),
        *("wav", "video file", "video path", "id", "youtube id", "youtubeid", "ytid", "yt id", "video id"),
        *("video", "clip id", "clip"),
    ),
    "start": ("start", "start second", "start seconds", "start time", "begin"),
    "end": ("end", "end second", "end seconds", "end time", "stop"),
    "label": (
        *("label name", "labelname", "class name", "classname", "category name", "class label", "label"),
        *("class", "category", "caption", "labels", "classes", "categories", "positive labels"),
    ),
    "split": ("split", "set", "train/test split", "subset"),
}
LONGEST = 1e9
"""Seconds, some thirty years."""
CLOCK = re.compile(r"(?:(\d{1,6}):(?=[0-5]\d:))?(\d{1,6}):([0-5]\d(?:\.\d*)?)")
"""m:ss and h:mm:ss."""
SEVERAL = ("labels", "positive labels")
"""Columns of FSD50K and AudioSet: a cell holds several labels, the general ones too."""
BETWEEN = re.compile(r",(?! )")
"""A comma between two labels; one that is followed by a space is a label's own."""
CODE = re.compile(r"/[mtg]/\w+")
"""AudioSet's code of a class."""
CODES = "class_labels_indices.csv"
"""AudioSet's list of its codes and their names: index, mid, display_name."""
CUT_ALREADY = "slice file name"
"""A column of UrbanSound8K: there, `start` and `end` are where a file was cut out of a longer recording."""


class ListedClip(NamedTuple):
    """A line of a list: what it calls the clip, the seconds at which it starts and ends (None: not given),
    its label and its split. `why` says why no clip can be made of it."""

    name: str
    start: float | None
    label: str
    split: str
    end: float | None = None
    why: str = ""


def read_csv(path: Path, lines: list[str] | None = None) -> list[list[str]]:
    """The rows of a csv that hold anything; its `lines` are added as they are. Raises InputError for a file
    that is missing or not one."""
    if not is_plain(path):
        raise InputError(f"There is no file '{path}': check its name and folder.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if lines is not None:
            lines += text.splitlines()
        return [row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if any(row)]
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}): check its name and folder.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' is no csv file ({error}): save it as UTF-8 text with commas.")


def read_list(path: Path) -> list[ListedClip]:
    """Every clip of a csv. Of several labels that a clip has it keeps the rarest in the list: "bark" says
    more than "animal". AudioSet's codes become the names in CODES, beside the list.

    Raises InputError where no first line names the columns and they are not VGGSound's, and for codes
    without their names.
    """
    rows = read_csv(path)
    if not rows:
        raise InputError(f"'{path}' is empty: give a csv with a line for each clip.")
    # AudioSet's lists begin with comments, the last of which names the columns.
    comments = next((n for n, row in enumerate(rows) if not row[0].startswith("#")), len(rows))
    heads = [_columns(row) for row in rows[: comments + 1]]
    line = next((n for n, places in enumerate(heads) if places["id"] and places["label"]), None)
    head = [] if line is None else rows[line]
    first = rows[min(comments, len(rows) - 1)]
    if line is not None:
        places, rows = heads[line], rows[max(line + 1, comments) :]
    elif len(first) >= 4 and None not in map(_seconds, first[1:3]) and first[3].casefold() not in SPLITS:
        places, rows = {"id": [0], "start": [1], "end": [2], "label": [3], "split": [4]}, rows[comments:]
    elif len(first) >= 3 and _seconds(first[1]) is not None:
        places, rows = {"id": [0], "start": [1], "end": [], "label": [2], "split": [3]}, rows[comments:]
    elif len(first) == 2 and Path(first[0]).suffix.lower() in SUFFIXES:
        places, rows = {"id": [0], "start": [], "end": [], "label": [1], "split": []}, rows[comments:]
    else:
        raise InputError(
            f"'{path}' has the columns {', '.join(first)[:200]}: give id, start second, label, split as "
            "VGGSound does, or a first line that names 'id' and 'label'."
        )

    def cell(row: list[str], name: str) -> str:
        """The first column of the kind that is not empty."""
        return next((row[i].strip() for i in places[name] if i < len(row) and row[i].strip()), "")

    several = bool(head) and _heads(head)[places["label"][0]] in SEVERAL
    labels = _labels([cell(row, "label") for row in rows], several, path)
    return [
        ListedClip(
            name=cell(row, "id"),
            start=_seconds(cell(row, "start")),
            label=label,
            split=split_of(cell(row, "split")),
            end=_seconds(cell(row, "end")),
            why=_not_seconds("start", cell(row, "start")) or _not_seconds("end", cell(row, "end")),
        )
        for row, label in zip(rows, labels)
    ]


def read_labels(path: Path) -> set[str]:
    """The labels of a file: its lines, which may hold commas, and what stands first in each as in a csv.

    Raises InputError as `read_csv` does.
    """
    lines: list[str] = []
    cells = {row[0] for row in read_csv(path, lines)}
    return {label_of(text) for text in (*cells, *lines)}


def _labels(cells: list[str], several: bool, path: Path) -> list[str]:
    """Each clip's label in words."""
    code = next((cell for cell in cells if CODE.match(cell)), "")
    names = _names_of_codes(path, code) if code else {}
    parts = [BETWEEN.split(cell) if several or code else [cell] for cell in cells]
    listed = [[label_of(names.get(part.strip(), part)) for part in own] for own in parts]
    counts = Counter(label for own in listed for label in own)
    return [min(own, key=counts.__getitem__) for own in listed]


def _names_of_codes(path: Path, code: str) -> dict[str, str]:
    listed = path.with_name(CODES)
    if not is_plain(listed):
        raise InputError(
            f"'{path}' names its labels by AudioSet's codes ({code[:40]}): put AudioSet's {CODES} beside it."
        )
    return {row[1].strip(): row[2] for row in read_csv(listed) if len(row) >= 3}


def _heads(row: list[str]) -> list[str]:
    return [re.sub(r"[#_\s-]+", " ", cell).strip().lower() for cell in row]


def _columns(row: list[str]) -> dict[str, list[int]]:
    """Where a first line names each of COLUMNS, the likeliest first."""
    heads = _heads(row)
    places = {
        name: [heads.index(known) for known in names if known in heads] for name, names in COLUMNS.items()
    }
    return places | ({"start": [], "end": []} if CUT_ALREADY in heads else {})


def _seconds(text: str) -> float | None:
    """The seconds that a text gives, as a number, m:ss or h:mm:ss; None where it gives none within a file."""
    clock = CLOCK.fullmatch(text)
    try:
        value = float(clock[3] if clock else text)
    except ValueError:
        return None
    if clock:
        value += 3600 * int(clock[1] or 0) + 60 * int(clock[2])
    return value if abs(value) < LONGEST else None


def _not_seconds(what: str, text: str) -> str:
    return f"its {what} '{text}' is no number of seconds" if text and _seconds(text) is None else ""
