"""The clips of an unprepared data set: videos, or sounds and frames, with labels in a list or as folders.

A list is VGGSound's csv (id, start second, label, split; or file, label), or any csv whose first line names
its columns. A file is found by its id wherever it lies below the source, or by its path, with or without the
ending, from the source, from the list's own folder, or from a folder above or below:

    ID_000012.mp4, ID_12.wav    the part from second 12 on, cut out already
    ID_12000_22000.wav          the same in milliseconds, from and to
    YID.wav, YID_12000_22000.wav    AudioSet's files, with a Y before the id
    ID.mp4                      the whole video: its part is cut out here, to the list's end second if any
    frames/ID/*.jpg, frame_3/ID.jpg, ID_3.jpg    pictures, for a sound or in place of the video's own

Where names repeat between folders, only the path tells: a clip that several files fit is not made.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from ..audio import VIDEOS
from ..errors import InputError
from ..files import is_dir, is_reserved
from .class_folders import class_folders, pictures_by_sound
from .csv_list import read_labels, read_list
from .frame_folders import group_frames
from .matching import (
    FileIndex,
    ListedName,
    Match,
    SourceFile,
    listed_name,
    parent,
    possible_files,
    source_files,
)
from .names import check_alike

MISSING = "there is no sound or video of this id"


@dataclass(frozen=True)
class Item:
    """A clip to be made. `media` is a sound or a video, used from `start` seconds on, for `seconds` at most
    (None: for as long as clips are); `pictures` replace the video's own frames. `why` says why it cannot be
    made."""

    id: str
    label: str
    split: str = ""
    media: Path | None = None
    start: float = 0.0
    seconds: float | None = None
    pictures: tuple[Path, ...] = ()
    why: str = ""


def find(source: Path, listed: Path | None = None, labels: Path | None = None) -> list[Item]:
    """The clips that a source holds, in the order of its list, or of its classes' names.

    `labels` is a file that names every label that may come (one a line, or VGGSound's stat.csv). A clip that
    cannot be made (no file, a label that is not in the list, an id that came before) has a `why`. Raises
    InputError for a missing source, a list with other columns, one that names nothing, and labels that differ
    in capitals alone.
    """
    if not is_dir(source):
        raise InputError(f"There is no folder '{source}': give the folder that holds the videos or sounds.")
    listed = list_of(source, listed)
    found = _from_list(source, listed) if listed else _from_classes(source)
    if not found:
        raise InputError(
            f"'{listed or source}' names no clips: give folders of classes that hold videos or sounds, or a "
            "csv that lists them."
        )
    check_alike((item.label for item, _ in found), listed or source)
    allowed = None if labels is None else read_labels(labels)
    checked, seen = [], Counter()
    for number, (item, id) in enumerate(zip([item for item, _ in found], _ids(found)), 1):
        why, own = item.why, _identity(item)
        if not id:
            id, why = f"#{number}", "it has no id"
        elif seen[own]:
            id, why = f"{id}#{seen[own] + 1}", why or "its id stands in the list before"
        elif not item.label:
            why = "it has no label"
        elif allowed is not None and item.label not in allowed:
            why = f"its label is not in '{labels.name}'"
        seen[own] += 1
        checked.append(replace(item, id=id, why=why))
    return checked


def list_of(source: Path, listed: Path | None = None) -> Path | None:
    """The list that `find` goes by: the one that is given, or the only csv in the source; None where the
    source's folders are the classes."""
    if listed is None:
        lists = sorted(path for path in source.glob("*.csv") if path.name[0] != ".")
        return lists[0] if len(lists) == 1 else None
    return listed


def _identity(item: Item) -> tuple:
    return item.id, item.media, item.start


def _ids(found: list[tuple[Item, str]]) -> list[str]:
    """Names for the clips' folders, from their ids; where two would be the same on some system, each gets a
    suffix, which depends only on what the list says of the clip."""
    names = [_safe(item.id) for item, _ in found]
    taken: dict[str, set[tuple]] = defaultdict(set)
    for (item, _), name in zip(found, names):
        taken[name.casefold()].add(_identity(item))
    return [
        f"{name[:140]}-{sha256(listed_as.encode('utf-8', 'replace')).hexdigest()[:8]}"
        if name and (len(taken[name.casefold()]) > 1 or is_reserved(name))
        else name
        for (_, listed_as), name in zip(found, names)
    ]


def _safe(id: str) -> str:
    """An id as a file name without dots: a shard's members belong together by their names' first part."""
    name = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", id))[:150]
    # Disks count bytes.
    return name.encode()[:200].decode(errors="ignore")


def _from_list(source: Path, listed: Path) -> list[tuple[Item, str]]:
    """Clips, each with what the list says to tell it from the others."""
    rows = read_list(listed)
    media, pictures = source_files(source)
    index = FileIndex(media)
    places = os.path.realpath(source), os.path.realpath(listed.parent)
    names = [listed_name(row.name, *places) for row in rows]
    stems = {name.stem for name in names}
    options = [possible_files(name, row.start, stems) for name, row in zip(names, rows)]
    matches = [index.match(name, own) for name, own in zip(names, options)]
    claims: dict[str, set[tuple]] = defaultdict(set)
    for name, match in zip(names, matches):
        for file in match.files:
            claims[file.path].add(name.folder)
    keys = {key for own in options for keys, _ in own for key in keys} | set(index.by_key)
    numbered = {f"{name.stem}_{int(row.start)}" for name, row in zip(names, rows) if row.start is not None}
    numbered -= stems | index.by_key.keys()
    frames = group_frames(pictures, keys, numbered, {file.folder for file in media})
    sounds = _folders_of_sounds(media, names, matches)
    items = []
    for row, name, own, match in zip(rows, names, options, matches):
        id = "/".join([*name.folder, name.stem]) if name.stem else ""
        if id and row.start is not None:
            id = f"{id}_{int(row.start):06d}"
        item, files = Item(id, row.label, row.split), match.files
        if not files:
            item = replace(item, why=MISSING)
        elif len(files) > 1:
            item = replace(item, why=f"several files fit it: {_enumerated(source, [f.path for f in files])}")
        elif match.higher and len(claims[files[0].path]) > 1:
            why = f"other paths of the list fit its file too: {files[0].stem}{files[0].suffix}"
            item = replace(item, why=why)
        else:
            named = (key for keys, _ in own for key in keys if isinstance(key, str))
            shown, several = frames.of(files[0], dict.fromkeys([files[0].stem, *named]), sounds)
            why = f"several pictures fit it: {_enumerated(source, several)}" if several else ""
            path, shown = Path(files[0].path), tuple(map(Path, shown))
            item = replace(item, media=path, start=match.start, pictures=shown, why=why)
            if row.end is not None:
                seconds = row.end - (match.start if row.start is None else row.start)
                why = why or ("" if seconds > 0 else f"it ends at {row.end:g} s, where it has not begun")
                item = replace(item, seconds=seconds, why=why)
        items.append((replace(item, why=row.why or item.why), f"{row.name}@{row.start}"))
    return items


def _folders_of_sounds(
    media: list[SourceFile], names: list[ListedName], matches: list[Match]
) -> dict[str, dict[str, set[tuple[str, ...]]]]:
    """{stem: {name of the folder: folders}} of all sounds, those that are listed but missing included."""
    folders: dict[str, dict[str, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    for file in media:
        folders[file.stem][parent(file.folder)].add(file.folder)
    for name, match in zip(names, matches):
        if not match.files and name.folder:
            folders[name.stem][parent(name.folder)].add(name.folder)
    return folders


def _enumerated(source: Path, paths: Iterable[str]) -> str:
    named = sorted(Path(os.path.relpath(path, source)).as_posix() for path in paths)
    return ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")


def _from_classes(source: Path) -> list[tuple[Item, str]]:
    items = []
    for group in class_folders(source):
        pictures = group.pictures
        for path, own in pictures_by_sound(group.sounds, pictures):
            shown = own if path.suffix.lower() in VIDEOS else own or pictures
            listed_as = path.relative_to(source).as_posix()
            id = listed_as.removesuffix(path.suffix)
            items.append((Item(id, group.label, group.split, path, pictures=tuple(shown)), listed_as))
    return items
