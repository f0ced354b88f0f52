"""What `aai data prepare` is given: videos, or sounds and frames, with their labels in a list or as folders.

A list is VGGSound's csv (id, start second, label, split; or file, label), or any csv whose first line names
its columns. A file is found by its id wherever it lies below the source, or by its path, with or without the
ending, from the source, from the list's own folder, or from a folder above or below:

    ID_000012.mp4, ID_12.wav    the part from second 12 on, cut out already
    ID_12000_22000.wav          the same in milliseconds, from and to
    YID.wav, YID_12000_22000.wav    AudioSet's files, with a Y before the id
    ID.mp4                      the whole video: its part is cut out here
    frames/ID/*.jpg, frame_3/ID.jpg, ID_3.jpg    pictures, for a sound or in place of the video's own

Where names repeat between folders, only the path tells: a clip that several files fit is not made.
"""

from __future__ import annotations

import csv
import math
import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from ..audio import SUFFIXES, VIDEOS
from ..errors import InputError
from ..files import is_dir, is_file, is_reserved
from .clips import PICTURES, class_folders, is_plain, pictures_by_sound

COLUMNS = {
    # A path tells more than an id, and a class's name more than its number.
    "id": (
        *("path", "filepath", "file path", "relative path", "file", "filename", "file name", "fname"),
        *("slice file name", "audio file", "audio filename", "audio file name", "audio path", "audio"),
        *("wav", "video file", "video path", "id", "youtube id", "youtubeid", "ytid", "yt id", "video id"),
        *("video", "clip id", "clip"),
    ),
    "start": ("start", "start second", "start seconds", "start time", "begin"),
    "label": (
        *("label name", "labelname", "class name", "classname", "category name", "class label", "label"),
        *("class", "category", "caption", "labels", "classes", "categories"),
    ),
    "split": ("split", "set", "train/test split", "subset"),
}
CUT_ALREADY = "slice file name"
"""UrbanSound8K's files: their `start` is where they began in the recording that they were cut from."""
MISSING = "there is no sound or video of this id"
CUT = re.compile(r"(.+)_(\d{6})$")
SPAN = re.compile(r"(.+)_(\d+)_(\d+)$")
LONGEST_SPAN = 60_000
"""Milliseconds. ID_5000_15000 is a part of ID; with other numbers it is a name like any."""
FRAMES = re.compile(r"frames?[ _-]?\d+", re.IGNORECASE)
"""CAV-MAE's folders of pictures: frame_3 holds the fourth of every clip."""


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
        raise InputError(f"There is no folder '{source}': give the folder that holds the videos or sounds.")
    if listed is None:
        lists = sorted(path for path in source.glob("*.csv") if path.name[0] != ".")
        listed = lists[0] if len(lists) == 1 else None
    found = _from_list(source, listed) if listed else _from_classes(source)
    if not found:
        raise InputError(
            f"'{listed or source}' names no clips: give folders of classes that hold videos or sounds, or a "
            "csv with --csv."
        )
    allowed = None if labels is None else {row[0].strip() for row in _read_csv(labels) if row}
    checked, seen = [], Counter()
    for number, (item, id) in enumerate(zip([item for item, _ in found], _ids(found)), 1):
        why, own = item.why, _identity(item)
        if not id:
            id, why = f"#{number}", "it has no id"
        elif seen[own]:
            id, why = f"{id}#{seen[own] + 1}", "its id stands in the list before"
        elif not item.label:
            why = "it has no label"
        elif allowed is not None and item.label not in allowed:
            why = f"its label is not in '{labels.name}'"
        seen[own] += 1
        checked.append(replace(item, id=id, why=why))
    return checked


def _identity(item: Item) -> tuple:
    return item.id, item.media, item.start


def _ids(found: list[tuple[Item, str]]) -> list[str]:
    """Names for the clips' folders, of what each calls itself; clips whose names would be one on some
    computer have a mark of their own, made of nothing but what the list says of them."""
    names = [_safe(item.id) for item, _ in found]
    taken: dict[str, set[tuple]] = defaultdict(set)
    for (item, _), name in zip(found, names):
        taken[name.casefold()].add(_identity(item))
    return [
        f"{name[:140]}-{sha256(told.encode('utf-8', 'replace')).hexdigest()[:8]}"
        if name and (len(taken[name.casefold()]) > 1 or is_reserved(name))
        else name
        for (_, told), name in zip(found, names)
    ]


def _safe(id: str) -> str:
    """An id as a name for files: a shard's members are told apart up to the first dot."""
    name = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", id))[:150]
    # Disks count bytes.
    return name.encode()[:200].decode(errors="ignore")


def _read_csv(path: Path) -> list[list[str]]:
    if not is_plain(path):
        raise InputError(f"There is no file '{path}': check its name and folder.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file, skipinitialspace=True) if any(row)]
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}): check its name and folder.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' is no csv file ({error}): save it as UTF-8 text with commas.")


def read_list(path: Path) -> list[tuple[str, float | None, str, str]]:
    """(id, start second or None, label, split) of every line of a csv.

    Raises InputError where the columns are not told by a first line and are not VGGSound's.
    """
    rows = _read_csv(path)
    if not rows:
        raise InputError(f"'{path}' is empty: give a csv with a line for each clip.")
    # AudioSet's lists begin with comments, the last of which names the columns.
    comments = next((n for n, row in enumerate(rows) if not row[0].startswith("#")), len(rows))
    heads = [_columns(row) for row in rows[: comments + 1]]
    line = next((n for n, places in enumerate(heads) if places["id"] and places["label"]), None)
    first = rows[min(comments, len(rows) - 1)]
    if line is not None:
        places, rows = heads[line], rows[max(line + 1, comments) :]
    elif len(first) >= 3 and _number(first[1]) is not None:
        places, rows = {"id": [0], "start": [1], "label": [2], "split": [3]}, rows[comments:]
    elif len(first) == 2 and Path(first[0]).suffix.lower() in SUFFIXES:
        places, rows = {"id": [0], "start": [], "label": [1], "split": []}, rows[comments:]
    else:
        raise InputError(
            f"'{path}' has the columns {', '.join(first)[:200]}: give id, start second, label, split as "
            "VGGSound does, or a first line that names 'id' and 'label'."
        )

    def cell(row: list[str], name: str) -> str:
        """The first column of the kind that says something."""
        return next((row[i].strip() for i in places[name] if i < len(row) and row[i].strip()), "")

    return [
        (cell(row, "id"), _number(cell(row, "start")), cell(row, "label"), cell(row, "split")) for row in rows
    ]


def _columns(row: list[str]) -> dict[str, list[int]]:
    """Where a first line names each of COLUMNS, the likeliest first."""
    heads = [re.sub(r"[#_\s-]+", " ", cell).strip().lower() for cell in row]
    places = {
        name: [heads.index(known) for known in names if known in heads] for name, names in COLUMNS.items()
    }
    return places | ({"start": []} if CUT_ALREADY in heads else {})


def _number(text: str) -> float | None:
    """None where it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class _Found:
    """A file below the source: the names of its folders, its own, and its ending in small letters."""

    path: str
    folder: tuple[str, ...]
    stem: str
    suffix: str


@dataclass(frozen=True)
class _Name:
    """What a list calls a clip. `places` are the folders that its path means to the letter."""

    folder: tuple[str, ...]
    stem: str
    suffix: str
    places: frozenset[tuple[str, ...]]

    def near(self, files: dict[str, list[_Found]]) -> Iterable[_Found]:
        """Those, of files by the name of their folder, that `fits` may take."""
        told = {_last(folder) for folder in self.places} | {_last(self.folder), ""}
        return (file for last in (told if self.folder else list(files)) for file in files.get(last, ()))

    def fits(self, files: Iterable[_Found]) -> tuple[list[_Found], bool]:
        """Those of the files of one stem that the path allows, and whether they lie higher than it says."""
        files, higher = list(dict.fromkeys(files)), False
        fit = [f for f in files if f.folder in self.places and (self.folder or f.suffix == self.suffix)]
        if not fit:
            deep = len(self.folder)
            fit = [f for f in files if not deep or f.folder[-deep:] == self.folder]
        if not fit:
            fit = [f for f in files if self.folder[len(self.folder) - len(f.folder) :] == f.folder]
            higher = True
        return [f for f in fit if f.suffix == self.suffix] or fit, higher

    def means(self, files: Iterable[_Found]) -> bool:
        """Whether one of them is what the list names to the letter, ending and all."""
        return any(file.folder in self.places and file.suffix == self.suffix for file in files)


def _name(text: str, source: str, above: str) -> _Name:
    """`source` and `above`, the list's own folder, without links."""
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
    return _Name(parts, stem, suffix.lower(), frozenset(places))


_Key = str | tuple[str, int]
"""What a file may be asked for by: its name, or whose part it is and from which millisecond on."""


def _span(stem: str) -> tuple[str, int] | None:
    """Whose part a file of this name is, and from which millisecond on."""
    told = SPAN.match(stem)
    if not told or len(told[3]) > 9 or not 100 <= int(told[3]) - int(told[2]) <= LONGEST_SPAN:
        return None
    return told[1], int(told[2])


def _readings(name: _Name, start: float | None, listed: set[str]) -> list[tuple[list[_Key], float]]:
    """Names of files that may hold a clip, the likeliest first, each with the second at which it begins
    there. ID_12 is no part of ID where the list calls another clip so; nor is YID then ID."""
    stem = name.stem
    # VGGSound's test.csv has the start in the name already.
    cut, span = CUT.match(stem), _span(stem)
    whole, second = (cut[1], float(cut[2])) if cut else (span[0], span[1] / 1000) if span else (stem, start)
    ways: list[tuple[list[_Key], float]] = [([stem], 0.0)]
    if start is not None and second is not None and int(second) != int(start):
        whole, second = stem, start
    if second is not None:
        parts: list[_Key] = [f"{whole}_{int(second):06d}", (whole, round(second * 1000))]
        if f"{whole}_{int(second)}" not in listed:
            parts.append(f"{whole}_{int(second)}")
        if whole == stem:
            ways = [(parts, 0.0), ([stem], second)]
        else:
            ways += [(parts, 0.0), ([whole], second)]
    return [*ways, *(([with_y for key in keys if (with_y := _y(key, listed))], at) for keys, at in ways)]


def _y(key: _Key, listed: set[str]) -> _Key | None:
    """The same with AudioSet's Y before the id, or without it; None where the list calls another clip so."""
    id, *start = (key,) if isinstance(key, str) else key
    other = id[1:] if re.fullmatch(r"Y[\w-]{11}(_\d+)?", id) else f"Y{id}"
    if other in listed:
        return None
    return (other, *start) if start else other


def _from_list(source: Path, listed: Path) -> list[tuple[Item, str]]:
    """Clips under the names that the list gives them, and all that it says to tell one from another."""
    rows = read_list(listed)
    media, pictures = _walk(source)
    # By their folder's own name as well: whole sets are called audio.wav.
    by_key: dict[_Key, dict[str, list[_Found]]] = defaultdict(lambda: defaultdict(list))
    for file in media:
        for key in (file.stem, _span(file.stem)):
            if key:
                by_key[key][_last(file.folder)].append(file)
    places = os.path.realpath(source), os.path.realpath(listed.parent)
    names = [_name(row[0], *places) for row in rows]
    stems = {name.stem for name in names}
    readings = [_readings(name, row[1], stems) for name, row in zip(names, rows)]
    found: list[tuple[list[_Found], float, bool]] = []
    claims: dict[str, set[tuple]] = defaultdict(set)
    for name, ways in zip(names, readings):
        fit, start, higher = [], 0.0, False
        if name.means(name.near(by_key.get(name.stem, {}))):
            # A part of it that was cut out may lie elsewhere, but the list names the whole.
            ways = [trajectory for trajectory in ways if name.stem in trajectory[0]]
        for keys, second in ways:
            fit, higher = name.fits(file for key in keys for file in name.near(by_key.get(key, {})))
            if fit:
                start = second
                break
        for file in fit:
            claims[file.path].add(name.folder)
        found.append((fit, start, higher))
    asked = {key for ways in readings for keys, _ in ways for key in keys} | set(by_key)
    numbered = {f"{name.stem}_{int(row[1])}" for name, row in zip(names, rows) if row[1] is not None}
    numbered -= stems | by_key.keys()
    frames = _frames(pictures, asked, numbered, {file.folder for file in media})
    elsewhere: dict[str, dict[str, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    for file in media:
        elsewhere[file.stem][_last(file.folder)].add(file.folder)
    for name, (fit, *_) in zip(names, found):
        if not fit and name.folder:
            elsewhere[name.stem][_last(name.folder)].add(name.folder)
    items = []
    for (text, second, label, split), name, ways, (fit, start, higher) in zip(rows, names, readings, found):
        own = "/".join([*name.folder, name.stem]) if name.stem else ""
        if own and second is not None:
            own = f"{own}_{int(second):06d}"
        item, told = Item(own, label, split), f"{text}@{second}"
        if not fit:
            item = replace(item, why=MISSING)
        elif len(fit) > 1:
            item = replace(item, why=f"several files fit it: {_listing(source, [f.path for f in fit])}")
        elif higher and len(claims[fit[0].path]) > 1:
            item = replace(
                item, why=f"other paths of the list fit its file too: {fit[0].stem}{fit[0].suffix}"
            )
        else:
            named = (key for keys, _ in ways for key in keys if isinstance(key, str))
            keys = dict.fromkeys([fit[0].stem, *named])
            shown, several = frames.of(fit[0], keys, elsewhere)
            why = f"several pictures fit it: {_listing(source, several)}" if several else ""
            path = Path(fit[0].path)
            item = replace(item, media=path, start=start, pictures=tuple(map(Path, shown)), why=why)
        items.append((item, told))
    return items


def _listing(source: Path, paths: Iterable[str]) -> str:
    named = sorted(Path(os.path.relpath(path, source)).as_posix() for path in paths)
    return ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")


def _from_classes(source: Path) -> list[tuple[Item, str]]:
    items = []
    for group in class_folders(source):
        files = sorted(path for path in group.path.iterdir() if is_file(path) and path.name[0] != ".")
        pictures = [path for path in files if path.suffix.lower() in PICTURES]
        sounds = [path for path in files if path.suffix.lower() in SUFFIXES]
        for path, own in pictures_by_sound(sounds, pictures):
            shown = own if path.suffix.lower() in VIDEOS else own or pictures
            told = path.relative_to(source).as_posix()
            id = told.removesuffix(path.suffix)
            items.append((Item(id, group.label, group.split, path, 0.0, tuple(shown)), told))
    return items


class _Frames:
    """Pictures by what may be a clip's name, and by the folder in which they lie under that name."""

    def __init__(self, beside: set[tuple[str, ...]]):
        """`beside`: the folders with sounds or videos."""
        self.beside = beside
        self.groups: dict[str, dict[str, dict[tuple[str, ...], list[str]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def of(
        self, file: _Found, keys: Iterable[str], elsewhere: dict[str, dict[str, set[tuple[str, ...]]]]
    ) -> tuple[list[str], list[str]]:
        """The pictures of a sound under the first of `keys` that has any; or one of each group, where more
        than one may be meant. `elsewhere`: where sounds of a name lie, by their folder's own name."""
        for key in keys:
            own: dict[float, list[list[str]]] = defaultdict(list)
            shared, groups, last = [], self.groups.get(key, {}), _last(file.folder)
            sounds = elsewhere.get(key, {})
            for place, paths in groups.get(last, {}).items():
                near = _nearness(place, file.folder)
                others = [_nearness(place, f) for f in sounds.get(last, ()) if f != file.folder]
                if max(others, default=-1) == near:
                    shared.append(paths[0])
                elif max(others, default=-1) < near:
                    own[near].append(paths)
            if not own and not shared:
                alone = not any(folder != file.folder for folders in sounds.values() for folder in folders)
                for above in groups.keys() - {last} - sounds.keys():
                    for place, paths in groups[above].items():
                        if place and place in self.beside:
                            continue
                        if alone:
                            own[0].append(paths)
                        else:
                            shared.append(paths[0])
            if own:
                nearest = own[max(own)]
                return (nearest[0], []) if len(nearest) == 1 else ([], [paths[0] for paths in nearest])
            if shared:
                return [], shared
        return [], []


def _last(folder: tuple[str, ...]) -> str:
    return folder[-1] if folder else ""


def _nearness(place: tuple[str, ...], other: tuple[str, ...]) -> float:
    """How many folders above two files are called alike; all of them is more than any number."""
    if place == other:
        return math.inf
    alike = (one == two for one, two in zip(reversed(place), reversed(other)))
    return next((i for i, same in enumerate(alike) if not same), min(len(place), len(other)))


def _frames(
    pictures: list[_Found], asked: set[_Key], numbered: set[str], beside: set[tuple[str, ...]]
) -> _Frames:
    """`asked`: what may be a clip's name. frames/ID/3.jpg is called ID, before it is called 3; and ID_3.jpg
    is a picture of ID where no clip is called ID_3; `numbered` has those that only a start of 3 asks for."""
    frames = _Frames(beside)
    for picture in pictures:
        folder, key = picture.folder, picture.stem
        if folder and folder[-1] in asked and folder not in beside:
            folder, key = folder[:-1], folder[-1]
        elif key not in asked or key in numbered:
            key = key.rpartition("_")[0]
        if key in asked:
            place = tuple(part for part in folder if not FRAMES.fullmatch(part))
            frames.groups[key][_last(place)][place].append(picture.path)
    return frames


def _walk(source: Path) -> tuple[list[_Found], list[_Found]]:
    """Sounds and videos, and pictures, below a folder."""
    media, pictures = [], []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted((name for name in folders if name[0] != "."), key=_natural)
        place = unicodedata.normalize("NFC", os.path.relpath(folder, source)).replace("\\", "/")
        above = tuple(part for part in place.split("/") if part != ".")
        for name in sorted((name for name in names if name[0] != "."), key=_natural):
            # Archives made on Windows may leave folders in the names.
            *within, last = unicodedata.normalize("NFC", name).split("\\")
            stem, suffix = os.path.splitext(last)
            kind = suffix.lower()
            if kind in SUFFIXES or kind in PICTURES:
                found = _Found(os.path.join(folder, name), (*above, *within), stem, kind)
                (media if kind in SUFFIXES else pictures).append(found)
    return media, pictures


def _natural(name: str) -> list:
    """frame_10 comes after frame_9."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]
