"""Clips to train and measure on: a sound, its label and its pictures, wherever they are kept.

`scan` reads three kinds of folder alike: a folder of classes (`class/clip.wav` beside `class/*.jpg`, or
`train/class/`, `test/class/` ...), one that `prepare.prepare` wrote (its manifest is `clips.jsonl`), and
WebDataset shards (`*.tar`).
"""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from .. import audio, image
from ..audio import SUFFIXES
from ..errors import InputError, first_line
from ..files import is_dir, is_file
from .class_folders import PICTURES, class_folders, pictures_by_sound
from .names import MEASURED, check_alike, label_of, split_of

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "clips.jsonl"
UNFINISHED = "progress.jsonl"
"""The journal of a preparation that is not finished (`prepare.prepare`)."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, or `size` bytes of one from `offset` on: a member of a tar shard, called `member`."""

    path: Path
    offset: int = 0
    size: int | None = None
    member: str = ""

    @property
    def name(self) -> str:
        return self.member or self.path.name

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    def open(self) -> Path | BinaryIO:
        """Its path, or its content, as `audio.load` and `image.load` take it. Raises InputError for a file
        that is missing or not a regular one, and for a shard that cannot be read."""
        try:
            if not is_plain(self.path):
                again = "prepare the data again" if self.size is None else "make the shard again"
                raise InputError(f"There is no file '{self.path}': {again}.")
            if self.size is None:
                return self.path
            with self.path.open("rb") as shard:
                if self.offset + self.size > os.fstat(shard.fileno()).st_size:
                    raise InputError(f"'{self.path}' ends before '{self.member}': make the shard again.")
                shard.seek(self.offset)
                return io.BytesIO(shard.read(self.size))
        except OSError as error:
            raise InputError(f"'{self.path}' cannot be read ({error.strerror}): make the shard again.")


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound, its label, and the pictures that belong with it.

    `id` is unique among the clips of one `scan`; `split` is "train", "test" or whatever its list calls it, ""
    where there is none. The pictures of a video are in order of time. `recording` is the longer recording
    that it was cut from, "" where that is not known.
    """

    id: str
    label: str
    sound: File
    pictures: tuple[File, ...]
    split: str = ""
    recording: str = ""

    def load_sound(self) -> audio.Sound:
        """The whole sound as it is stored. Raises InputError where it cannot be read, or is too long for a
        clip."""
        try:
            return audio.load(self.sound.open(), name=str(self.sound))
        except audio.TooLong as error:
            raise InputError(
                f"'{self.sound}' is too long for a clip: cut it, or list its parts for aai data prepare, "
                "each with its start and its end."
            ) from error

    def load_picture(self, i: int, size: int | None = None) -> Tensor:
        """Picture i as [3, H, W] in [0, 1]; `size` takes its middle square. Raises InputError where it
        cannot be read."""
        return image.load(self.pictures[i].open(), size, name=str(self.pictures[i]))

    @property
    def middle(self) -> int:
        """The index of the picture that evaluation takes: the middle one (CAV-MAE: 5 of 10)."""
        return len(self.pictures) // 2


def scan(folder: str | os.PathLike, split: str | None = None, *, pictures: bool = True) -> list[Clip]:
    """The clips of a folder of classes, of a prepared folder, or of shards; in the order of their names
    (of their list, where they were prepared).

    Of a folder of classes, a subfolder's name, underscores read as spaces, is the label (`class_folders`),
    and a clip's pictures are those called like it (`7.wav`: `7.jpg`, `7_*.jpg`), else all of its class.
    `split` takes only the clips of "train" or "test". Where no `pictures` are needed, a class may have none.
    Raises InputError for a missing folder, one without clips or with a single class, classes whose names are
    alike, a class that has sounds but no pictures, a split without classes, and a list that cannot be read.
    """
    folder, split = Path(folder), None if split is None else split_of(split)
    shards = [folder] if folder.suffix == ".tar" and is_file(folder) else []
    if not shards and not is_dir(folder):
        raise InputError(f"There is no folder '{folder}': give a folder with one subfolder for each class.")
    if is_plain(folder / MANIFEST):
        clips = list(_listed(folder))
    elif is_plain(folder / UNFINISHED):
        raise InputError(f"'{folder}' is not finished: prepare it again with the same settings.")
    elif shards := shards or sorted(folder.glob("*.tar")):
        clips = shard_clips(*shards, pictures=pictures)
    else:
        clips = list(_classes(folder, pictures))
    if split is not None:
        splits = sorted({clip.split for clip in clips} - {""})
        clips = [clip for clip in clips if clip.split == split]
        if not clips:
            raise InputError(
                f"'{folder}' has no clips of the split '{split}': "
                + (f"choose one of {', '.join(splits)}." if splits else "it is not split, so leave that out.")
            )
    labels = {clip.label for clip in clips}
    if len(labels) < 2:
        raise InputError(
            f"'{folder}' holds {len(labels)} classes with sounds: make a subfolder for each of at least two, "
            "since sounds are told from one another."
        )
    check_alike(labels, folder)
    return clips


def train_split(clips: list[Clip]) -> list[Clip]:
    """What to train on of clips of several splits: those of "train"; where there is none, those of no split
    that an evaluation takes (MEASURED, of which test and eval before the others)."""
    splits = {clip.split for clip in clips}
    if len(splits) < 2:
        return clips
    if "train" in splits:
        return [clip for clip in clips if clip.split == "train"]
    measured = [name for name in MEASURED if name in splits]
    for left_out in ({*measured[:1], "test", "eval"}, set(measured[:1])):
        if kept := [clip for clip in clips if clip.split not in left_out]:
            return kept
    return clips


def splits_of(clips: Iterable[Clip]) -> str:
    """The names of clips' splits for a sentence: "'dev'"; "none" for clips in no split's folder."""
    return ", ".join(sorted({f"'{clip.split}'" if clip.split else "none" for clip in clips}))


def _classes(folder: Path, needed: bool) -> Iterator[Clip]:
    for group in class_folders(folder):
        sounds, pictures = group.sounds, group.pictures
        if needed and not pictures:
            raise InputError(
                f"'{group.path}' holds sounds but no pictures: add some, or take the folder out."
            )
        # One tuple for all sounds without pictures of their own: each with its own would be as many files as
        # there are pairs of both.
        shared = tuple(map(File, pictures))
        names = Counter(sound.stem for sound in sounds)
        place = group.path.relative_to(folder).as_posix()
        for sound, own in pictures_by_sound(sounds, pictures):
            kept = tuple(map(File, own)) or shared
            name = sound.stem if names[sound.stem] == 1 else sound.name
            yield Clip(f"{place}/{name}", group.label, File(sound), kept, group.split)


def as_row(clip: Clip, folder: Path) -> dict:
    """A clip as a line of the manifest of `folder`."""

    def place(file: File) -> str | list:
        path = file.path.relative_to(folder).as_posix()
        return path if file.size is None else [path, file.member, file.offset, file.size]

    row = {"id": clip.id, "label": clip.label, "split": clip.split, "sound": place(clip.sound)}
    return {**row, "pictures": [place(file) for file in clip.pictures]}


def from_row(row: object, folder: Path) -> Clip:
    """The clip that `as_row` wrote. Raises ValueError, which says what is wrong, for a row of another shape,
    and for files outside of the folder."""

    def text(value: object, what: str) -> str:
        if not isinstance(value, str):
            raise ValueError(f"its {what} is no text")
        value.encode()
        return value

    def within(value: object) -> str:
        path = PurePath(text(value, "file"))
        if path.anchor or ".." in path.parts or "\0" in str(value) or not path.parts:
            raise ValueError(f"'{value}' is no file of this folder")
        return str(value)

    def file(place: object) -> File:
        if not isinstance(place, list):
            return File(folder / within(place))
        if len(place) != 4 or not all(type(number) is int and number >= 0 for number in place[2:]):
            raise ValueError("a file in a shard is told by its shard, its name, where it begins and its size")
        return File(_shard(folder, within(place[0])), place[2], place[3], text(place[1], "file"))

    if not isinstance(row, dict):
        raise ValueError("it is no clip")
    lacking = [name for name in ("id", "label", "sound", "pictures") if not row.get(name)]
    if lacking:
        raise ValueError(f"it has no {lacking[0]}")
    if not isinstance(row["pictures"], list):
        raise ValueError("its pictures are no list")
    pictures = tuple(map(file, row["pictures"]))
    id, label = text(row["id"], "id"), label_of(text(row["label"], "label"))
    split = split_of(text(row.get("split", ""), "split"))
    return Clip(id, label, file(row["sound"]), pictures, split, place_of(row.get("source", "")))


def place_of(stamp: object) -> str:
    """The path, below its source, of the file that a clip was made of, by the row's "source"
    (`stamps.stamp`); "" where it has none."""
    return stamp.rsplit(" ", 3)[0] if isinstance(stamp, str) else ""


@lru_cache(maxsize=1024)
def _shard(folder: Path, name: str) -> Path:
    """The same path object for all members of a shard, since a large set has millions."""
    return folder / name


def is_plain(path: Path) -> bool:
    """Whether there is a regular file; reading anything else (a pipe, a device) could go on without end.

    Raises InputError where something else has that name.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({getattr(error, 'strerror', None) or error}): rename it.")
    if not stat.S_ISREG(mode):
        raise InputError(f"'{path}' is no file: take it away.")
    return True


def read_rows(path: Path) -> list[dict]:
    """The lines of a manifest, each as `from_row` takes it.

    Raises InputError, which names the line, where one is not.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}): prepare the data again.")

    def refusal(number: int, error: Exception) -> InputError:
        return InputError(f"Line {number} of '{path}' cannot be read ({error}): prepare the data again.")

    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line.decode("utf-8-sig")))
        except (ValueError, RecursionError) as error:
            raise refusal(number, error)
    for number, row in enumerate(rows, 1):
        try:
            from_row(row, path.parent)
        except ValueError as error:
            raise refusal(number, error)
    return rows


def _listed(folder: Path) -> Iterator[Clip]:
    for row in read_rows(folder / MANIFEST):
        yield from_row(row, folder)


def shard_clips(*shards: Path, pictures: bool = True) -> list[Clip]:
    """The clips of a data set's WebDataset tars: members share the name before the first dot; a sound,
    pictures, and the label in a .json ("label", "split") or a .txt. Where no `pictures` are needed, clips may
    have none.

    That name is the id; where several have it, with its folder, and where that is not enough, with its tar.
    Raises InputError for a file that is not a tar, or holds no clip.
    """
    keyed = [entry for shard in shards for entry in _members(shard, pictures)]
    names, paths = Counter(clip.id for _, clip in keyed), Counter(path for path, _ in keyed)

    def distinct(path: str, clip: Clip) -> Clip:
        if names[clip.id] == 1:
            return clip
        return replace(clip, id=path if paths[path] == 1 else f"{clip.sound.path.name}/{path}")

    return [distinct(path, clip) for path, clip in keyed]


def _members(shard: Path, needed: bool) -> list[tuple[str, Clip]]:
    """The clips of one tar, called by their names, each with its path in there."""
    members: dict[tuple[str, str], list[File]] = {}
    if not is_plain(shard):
        raise InputError(f"There is no shard '{shard}': make it again.")
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    file = File(shard, member.offset_data, member.size, member.name)
                    members.setdefault((folder, name.split(".", 1)[0]), []).append(file)
    # What a damaged shard makes tarfile raise depends on its bytes; MemoryError is for a size in a header.
    except Exception as error:
        raise InputError(f"'{shard}' cannot be read as a shard ({first_line(error)}): make it again.")
    clips = []
    for (folder, key), files in members.items():
        labelled = _label(files)
        sounds = [file for file in files if Path(file.name).suffix.lower() in SUFFIXES]
        pictures = tuple(file for file in files if Path(file.name).suffix.lower() in PICTURES)
        if labelled and sounds and (pictures or not needed):
            clip = Clip(key, labelled[0], sounds[0], pictures, labelled[1])
            clips.append((f"{folder}/{key}" if folder else key, clip))
    if not clips:
        raise InputError(f"'{shard}' holds no clips: each needs a sound, pictures, and a .json with 'label'.")
    return clips


def _label(files: list[File]) -> tuple[str, str] | None:
    """The label and the split of a shard's clip; None where it has none."""
    for file in files:
        suffix = Path(file.name).suffix.lower()
        content = file.open().read() if suffix in (".json", ".txt") else b""
        try:
            if suffix == ".json":
                row = json.loads(content)
                return label_of(str(row["label"])), split_of(str(row.get("split", "")))
            if content:
                return label_of(content.decode("utf-8-sig")), ""
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return None
