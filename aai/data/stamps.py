"""What a clip was made of, and in which version: by that a later run knows what has changed since."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ..audio import VIDEOS
from ..errors import encodable
from .clips import place_of
from .frames import evenly
from .listing import MISSING, Item


def stamp(item: Item, source: Path, frames: int) -> str:
    """A clip's sound or video as `PATH SIZE TIME REST`: its path below `source`, its bytes, the nanosecond of
    its last change, and a digest of the part of it that is used and of `frames` of its pictures. "" where the
    sound or the pictures are gone."""
    if not item.media or not (item.pictures or item.media.suffix.lower() in VIDEOS):
        return ""
    shown = [item.pictures[i] for i in evenly(len(item.pictures), frames)]
    try:
        rest = [f"{item.start} {item.seconds}", *(_version(path, source) for path in shown)]
        digest = hashlib.blake2b("\n".join(rest).encode(), digest_size=8).hexdigest()
        return f"{_version(item.media, source)} {digest}"
    except OSError:
        return ""


def _version(path: Path, source: Path) -> str:
    state = os.stat(path)
    place = Path(os.path.relpath(path, source)).as_posix()
    return f"{encodable(place)} {state.st_size} {state.st_mtime_ns}"


def _file(stamp: str) -> tuple[str, ...]:
    """What is the same after a file was moved: its name, size and time."""
    place, *version = stamp.rsplit(" ", 3)
    return (PurePosixPath(place).name, *version[:2])


def with_gone(
    items: list[Item], rows: dict[str, dict], stamps: dict[str, str], labels: set[str] | None = None
) -> list[Item]:
    """The clips of folders of classes, and those of earlier runs whose file is gone, each where it stood.

    `rows` are those of the manifest, `stamps` the items', both by id. Rows that are neither are taken out of
    `rows`: their file was moved, and its clip is called otherwise now, or their label is none of `labels`.
    """
    ids, folders = {item.id for item in items}, {item.id.casefold() for item in items}
    places = {place_of(own) for own in stamps.values() if own}
    # Files of one name, size and time may be many: only one that is new can be where another was moved to.
    moved = {_file(own) for id, own in stamps.items() if own and id not in rows}
    gone: dict[str, list[Item]] = defaultdict(list)
    before = ""
    for id, row in list(rows.items()):
        own = str(row.get("source", ""))
        if id in ids:
            before = id
        elif id.casefold() in folders or place_of(own) in places or _file(own) in moved:
            del rows[id]
        elif labels is not None and row["label"] not in labels:
            del rows[id]
        else:
            gone[before].append(Item(id, row["label"], row.get("split", ""), why=MISSING))
    return gone[""] + [each for item in items for each in (item, *gone[item.id])]
