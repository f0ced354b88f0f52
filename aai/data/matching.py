"""Finding the files that a list's clips mean: by path, by id, or by id and start second."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..audio import SUFFIXES
from ..files import walk
from .class_folders import PICTURES
from .names import natural

CUT = re.compile(r"(.+)_(\d{6})$")
SPAN = re.compile(r"(.+)_(\d+)_(\d+)$")
LONGEST_SPAN = 60_000
"""Milliseconds. ID_5000_15000 is a part of ID; with other numbers it is a name like any."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file below the source: the names of its folders, its own, and its ending in small letters."""

    path: str
    folder: tuple[str, ...]
    stem: str
    suffix: str


@dataclass(frozen=True)
class ListedName:
    """What a list calls a clip, as folders, stem and ending. `places` are the folders below the source that
    its path may mean to the letter."""

    folder: tuple[str, ...]
    stem: str
    suffix: str
    places: frozenset[tuple[str, ...]]

    def candidates(self, files: dict[str, list[SourceFile]]) -> Iterable[SourceFile]:
        """Those of `files`, by the name of their folder, that `matches` may take."""
        parents = {parent(folder) for folder in self.places} | {parent(self.folder), ""}
        return (file for name in (parents if self.folder else list(files)) for file in files.get(name, ()))

    def matches(self, files: Iterable[SourceFile]) -> tuple[list[SourceFile], bool]:
        """Those of the files that the listed path allows, and whether they lie higher than it says."""
        files, higher = list(dict.fromkeys(files)), False
        fit = [f for f in files if f.folder in self.places and (self.folder or f.suffix == self.suffix)]
        if not fit:
            deep = len(self.folder)
            fit = [f for f in files if not deep or f.folder[-deep:] == self.folder]
        if not fit:
            fit = [f for f in files if self.folder[len(self.folder) - len(f.folder) :] == f.folder]
            higher = True
        return [f for f in fit if f.suffix == self.suffix] or fit, higher

    def is_exactly(self, files: Iterable[SourceFile]) -> bool:
        """Whether one of the files has exactly the listed path, ending included."""
        return any(file.folder in self.places and file.suffix == self.suffix for file in files)


def listed_name(text: str, source: str, above: str) -> ListedName:
    """A list's text for a clip. `source` and `above`, the list's own folder, have no links in them."""
    text = unicodedata.normalize("NFC", text).replace("\\", "/")
    path = posixpath.normpath(text) if text else ""
    folder, _, name = path.rpartition("/")
    if path.startswith("/"):
        folder = f"/{folder}"
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in SUFFIXES:
        stem, suffix = name, ""
    places = set()
    for base in (source, above):
        try:
            place = Path(os.path.relpath(os.path.join(base, folder), source)).parts
        except ValueError:  # Another drive.
            continue
        if ".." not in place:
            places.add(tuple(unicodedata.normalize("NFC", part) for part in place))
    parts = tuple(part for part in folder.split("/") if part not in ("", ".", ".."))
    return ListedName(parts, stem, suffix.lower(), frozenset(places))


FileKey = str | tuple[str, int]
"""What identifies a file: its stem, or the id that it is a part of and the millisecond where it begins."""


def span_of(stem: str) -> tuple[str, int] | None:
    """The id and the first millisecond of a file called ID_FROM_TO; None for other names."""
    match = SPAN.match(stem)
    if not match or len(match[3]) > 9 or not 100 <= int(match[3]) - int(match[2]) <= LONGEST_SPAN:
        return None
    return match[1], int(match[2])


def possible_files(
    name: ListedName, start: float | None, listed: set[str]
) -> list[tuple[list[FileKey], float]]:
    """(keys of files that may hold a clip, the second at which it begins in them), the likeliest first.

    ID_12 is not a part of ID where the list calls another clip ID_12; nor is YID then ID.
    """
    stem = name.stem
    # VGGSound's test.csv has the start in the name already.
    cut, span = CUT.match(stem), span_of(stem)
    whole, second = (cut[1], float(cut[2])) if cut else (span[0], span[1] / 1000) if span else (stem, start)
    options: list[tuple[list[FileKey], float]] = [([stem], 0.0)]
    if start is not None and second is not None and int(second) != int(start):
        whole, second = stem, start
    if second is not None:
        parts: list[FileKey] = [f"{whole}_{int(second):06d}", (whole, round(second * 1000))]
        if f"{whole}_{int(second)}" not in listed:
            parts.append(f"{whole}_{int(second)}")
        if whole == stem:
            options = [(parts, 0.0), ([stem], second)]
        else:
            options += [(parts, 0.0), ([whole], second)]
    return options + [([o for key in keys if (o := _audioset(key, listed))], at) for keys, at in options]


def _audioset(key: FileKey, listed: set[str]) -> FileKey | None:
    """The key with AudioSet's Y before the id, or without it; None where the list calls another clip so."""
    id, *start = (key,) if isinstance(key, str) else key
    other = id[1:] if re.fullmatch(r"Y[\w-]{11}(_\d+)?", id) else f"Y{id}"
    if other in listed:
        return None
    return (other, *start) if start else other


class Match(NamedTuple):
    """Files that may be a listed clip's, the second at which it begins in them, and whether they lie in
    fewer folders than the list says."""

    files: list[SourceFile]
    start: float = 0.0
    higher: bool = False


class FileIndex:
    """Files by key, then by the name of their folder: a whole set's may be called audio.wav."""

    def __init__(self, files: Iterable[SourceFile]):
        self.by_key: dict[FileKey, dict[str, list[SourceFile]]] = defaultdict(lambda: defaultdict(list))
        for file in files:
            for key in filter(None, (file.stem, span_of(file.stem))):
                self.by_key[key][parent(file.folder)].append(file)

    def match(self, name: ListedName, options: list[tuple[list[FileKey], float]]) -> Match:
        """The files of the first of `options` (`possible_files`) that has any."""
        if name.is_exactly(self._candidates(name, name.stem)):
            # A part of it that was cut out may lie elsewhere, but the list names the whole.
            options = [(keys, start) for keys, start in options if name.stem in keys]
        for keys, start in options:
            files, higher = name.matches(file for key in keys for file in self._candidates(name, key))
            if files:
                return Match(files, start, higher)
        return Match([])

    def _candidates(self, name: ListedName, key: FileKey) -> Iterable[SourceFile]:
        return name.candidates(self.by_key.get(key, {}))


def parent(folder: tuple[str, ...]) -> str:
    """The name of the innermost folder; "" for the source itself."""
    return folder[-1] if folder else ""


def source_files(source: Path) -> tuple[list[SourceFile], list[SourceFile]]:
    """Sounds and videos, and pictures, below a folder."""
    media, pictures = [], []
    found = [(os.path.dirname(entry.path), entry.name) for entry in walk(source)]
    places = {folder: os.path.relpath(folder, source) for folder, _ in found}
    order = {
        folder: [natural(part) for part in place.split(os.sep) if part != "."]
        for folder, place in places.items()
    }
    for folder, name in sorted(found, key=lambda file: (order[file[0]], natural(file[1]))):
        place = unicodedata.normalize("NFC", places[folder]).replace("\\", "/")
        above = tuple(part for part in place.split("/") if part != ".")
        # Archives made on Windows may leave folders in the names.
        *within, last = unicodedata.normalize("NFC", name).split("\\")
        stem, suffix = os.path.splitext(last)
        kind = suffix.lower()
        if kind in SUFFIXES or kind in PICTURES:
            file = SourceFile(os.path.join(folder, name), (*above, *within), stem, kind)
            (media if kind in SUFFIXES else pictures).append(file)
    return media, pictures
