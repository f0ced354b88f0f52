"""A folder of pictures as a library, kept in one file: features that are mapped, not read, and the list of
files with their stamps, so that only what has changed is seen again.

The file stands beside the pictures, one for each visual tower, or where it is told to.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from .. import files, image
from ..errors import InputError, logger
from . import nearest
from .retrieval import Library
from .towers import VisualTower

log = logger(__name__)

FORMAT = "aai-picture-library-1"
ODD_NAMES = "surrogatepass"
"""How a file's name that is no Unicode is kept: Python stands surrogates in for what it cannot read."""
SAVE_EVERY = 60.0
"""Seconds after which what was seen is written, for whoever ends the process: the next run goes on there."""
SAVING = 0.05
"""How much of the time may go into that, where the library is large."""
FAST_FROM = 300_000
"""Pictures from which a plain product is slower than one would wait for."""


def index(
    folder: str | os.PathLike,
    tower: VisualTower,
    file: str | os.PathLike | None = None,
    *,
    fast: bool = False,
    batch: int = 32,
    callback: Callable[[int, int], None] | None = None,
) -> Library:
    """A folder's pictures (and those of the folders below it) as a tower sees them.

    What the index in `file` (None: beside the pictures) holds of them is kept; new and changed pictures are
    seen, those that are gone are dropped, and the file is replaced in one move. Files that are no pictures
    are left out, with a warning. Where the folder takes no file, the library stays in memory, with a warning.
    `fast` makes FAISS's index beside it, which is then kept up to date.

    callback(done, total) counts the pictures that had to be seen; it may raise to cancel, and what was seen
    until then is kept. Raises InputError where no picture is left, for a `file` of another tower or folder,
    and for `fast` without FAISS.
    """
    folder = Path(folder)
    present, others = _scan(folder)
    if others:
        log.warning(
            "Left out of '%s', since their endings are no pictures': %d ('%s' for one).",
            *(folder, len(others), others[0]),
        )
    place = default_file(folder, tower) if file is None else Path(file)
    held = _read(place, tower, folder) if files.is_file(place) else None
    if fast:
        nearest.available()
    stamps = {} if held is None else dict(zip(held.names, held.rows_and_stamps()))
    kept = {name: stamps[name][0] for name, stamp in present.items() if stamps.get(name, (0, 0))[1] == stamp}
    waiting = [name for name in present if name not in kept]
    if held is not None and not waiting and len(kept) == len(held.names):
        return _library(held, tower, folder, place, fast)
    seen: dict[str, Tensor] = {}
    saves, due = True, time.monotonic() + SAVE_EVERY
    # Before the file is written, `held` is let go: a mapped file cannot be replaced on every system.
    try:
        for name, feature in _see(folder, waiting, tower, batch, callback):
            if kept and len(feature) != held.features.shape[1]:
                raise InputError(
                    f"'{place}' holds {held.features.shape[1]} numbers of a picture, not {len(feature)}: "
                    "delete it, and it is made again."
                )
            seen[name] = feature
            if saves and time.monotonic() >= due:
                began, merged = time.monotonic(), _merged(held, kept, seen, present)
                held = None
                saves = _write(place, merged, tower, folder, file is None)
                held = (_read(place, tower, folder) if saves else None) or merged
                kept, seen = {name: row for row, name in enumerate(held.names)}, {}
                due = time.monotonic() + max(SAVE_EVERY, (time.monotonic() - began) / SAVING)
    except BaseException:
        if seen and saves:
            merged = _merged(held, kept, seen, present)
            held = None
            # What is on its way up tells more than that this failed, too.
            with contextlib.suppress(InputError):
                _write(place, merged, tower, folder, file is None)
        raise
    if not kept and not seen:
        raise InputError(f"None of the {len(present)} pictures in '{folder}' can be read: put others in it.")
    merged = _merged(held, kept, seen, present)
    held = None
    held = _read(place, tower, folder) if _write(place, merged, tower, folder, file is None) else None
    if held is None:
        return Library(tower, folder, merged.names, merged.features)
    return _library(held, tower, folder, place, fast)


def read(file: str | os.PathLike, tower: VisualTower) -> Library:
    """A library as its index has it, whatever has become of the pictures since.

    Raises InputError for a file that is no index, and for one of another tower.
    """
    file = Path(file)
    if not files.is_file(file):
        raise InputError(f"There is no index '{file}': make one with `aai library index`.")
    held = _read(file, tower, None)
    if held is None:
        raise InputError(f"'{file}' is no whole index of a library: make it again with `aai library index`.")
    return _library(held, tower, held.folder, file, False)


def default_file(folder: Path, tower: VisualTower) -> Path:
    """Where the index of a folder stands for a tower: beside the pictures."""
    return folder / f".aai-library-{tower.key}.safetensors"


def scan(folder: str | os.PathLike) -> dict[str, tuple[int, int]]:
    """{path within the folder: (bytes, time of change in ns)} of its pictures, by name, linked ones
    and those of linked folders too; hidden files and folders are passed over, and so, with a warning, are
    folders that cannot be read. Raises InputError where
    there is none."""
    return _scan(Path(folder))[0]


def _scan(folder: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """What `scan` gives, and the files that are left out since their endings are no pictures'."""
    if not files.is_dir(folder):
        raise InputError(f"There is no folder of pictures '{folder}': check its name.")
    suffixes = image.suffixes()
    found, others, waiting, linked, seen = {}, [], [folder], [], set()
    # Links come last: a folder that is in the library by itself keeps its own name, and none is gone
    # through twice, however links lead around.
    while waiting or linked:
        place = waiting.pop() if waiting else linked.pop(0)
        try:
            stat = os.stat(place)
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(place) as opened:
                entries = list(opened)
        except OSError as error:
            log.warning("'%s' is left out of the library: %s.", place, error.strerror)
            continue
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if files.is_dir(entry.path):
                (linked if entry.is_symlink() else waiting).append(entry.path)
            elif files.is_file(entry.path):
                name = Path(entry.path).relative_to(folder).as_posix()
                if os.path.splitext(entry.name)[1].lower() in suffixes:
                    # It may be gone by now.
                    with contextlib.suppress(OSError):
                        stat = entry.stat()
                        found[name] = stat.st_size, stat.st_mtime_ns
                else:
                    others.append(name)
    if not found:
        raise InputError(
            f"The folder '{folder}' holds no pictures{_counted(others)}: put some in it (png, jpg, webp, "
            "avif, gif, bmp, tif)."
        )
    return dict(sorted(found.items())), sorted(others)


def _counted(names: Sequence[str]) -> str:
    """How many files are no pictures, with the first of them; "" for none."""
    if not names:
        return ""
    return f", by their endings, among its files ({len(names)}, '{min(names)}' for one)"


@dataclass(frozen=True, eq=False)
class _Held:
    """What an index file holds; features [N, dim] and stamps [N, 2] may be mapped."""

    folder: Path
    names: list[str]
    stamps: Tensor
    features: Tensor

    def rows_and_stamps(self) -> Iterator[tuple[int, tuple[int, int]]]:
        return ((row, tuple(stamp)) for row, stamp in enumerate(self.stamps.tolist()))

    @property
    def digest(self) -> str:
        held = hashlib.sha256(_bytes_of(self.names))
        held.update(self.stamps.numpy().tobytes())
        return held.hexdigest()[:12]


def _merged(
    held: _Held | None, kept: dict[str, int], seen: dict[str, Tensor], present: dict[str, tuple[int, int]]
) -> _Held:
    names = [name for name in present if name in kept or name in seen]
    dim = len(next(iter(seen.values()))) if seen else held.features.shape[1]
    features = torch.empty(len(names), dim)
    for row, name in enumerate(names):
        features[row] = seen[name] if name in seen else held.features[kept[name]]
    return _Held(Path(), names, torch.tensor([present[name] for name in names]), features)


def _see(
    folder: Path,
    names: Sequence[str],
    tower: VisualTower,
    batch: int,
    callback: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, Tensor]]:
    """(name, feature [dim]) of every picture that can be read; the next are decoded while a batch is seen."""

    def decode(name: str) -> Tensor | InputError:
        try:
            return image.load(folder / name, tower.image_size)
        except InputError as error:
            return error

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        left = iter(names)
        queue: list[tuple[str, Future]] = []
        done = 0
        while True:
            queue += [(name, pool.submit(decode, name)) for name in islice(left, 2 * batch - len(queue))]
            if not queue:
                return
            now, queue = queue[:batch], queue[batch:]
            decoded = [(name, future.result()) for name, future in now]
            for _, picture in decoded:
                if isinstance(picture, InputError):
                    log.warning("%s", picture)
            good = [(name, picture) for name, picture in decoded if isinstance(picture, Tensor)]
            if good:
                features = tower.embed_images(torch.stack([picture for _, picture in good]))
                for (name, _), feature in zip(good, features):
                    if feature.isfinite().all():
                        yield name, feature
                    else:
                        log.warning("'%s' is left out: %s makes no numbers of it.", folder / name, tower.name)
            done += len(now)
            if callback is not None:
                callback(done, len(names))
    finally:
        pool.shutdown(cancel_futures=True)


def _write(place: Path, held: _Held, tower: VisualTower, folder: Path, beside: bool) -> bool:
    """Whether the index could be written; beside the pictures, a disk that does not take it is no error."""
    tensors = {
        "features": held.features,
        "stamps": held.stamps,
        # A tensor, because a safetensors header ends at 100 MB.
        "names": torch.frombuffer(bytearray(_bytes_of(held.names)), dtype=torch.uint8),
    }
    metadata = {
        "format": FORMAT,
        "tower": tower.name,
        "key": tower.key,
        "folder": "." if place.parent.resolve() == folder.resolve() else str(folder.resolve()),
    }
    try:
        files.write_safetensors(place, tensors, metadata, "The library's index")
    except InputError as error:
        if not beside:
            raise
        log.warning("%s The library is kept in memory this time.", error)
        return False
    return True


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is an index that this package wrote."""
    return files.metadata(path).get("format") == FORMAT


def _bytes_of(names: Sequence[str]) -> bytes:
    return "\0".join(names).encode(errors=ODD_NAMES)


def _read(place: Path, tower: VisualTower, folder: Path | None) -> _Held | None:
    """An index, its features mapped; None, with a warning, where the file is damaged. Raises InputError for
    another tower's or folder's."""
    try:
        tensors, notes = files.read_safetensors(place, mapped=True)
        if notes.get("format") != FORMAT:
            raise ValueError("another format")
        features, stamps, names = _checked(tensors)
        key, whose, seen_by = notes["key"], notes["folder"], notes["tower"]
    except (KeyError, ValueError) as error:
        log.warning("'%s' is no whole index of a library (%s).", place, error)
        return None
    if key != tower.key:
        raise InputError(
            f"'{place}' is the index of another visual tower ({seen_by}): choose another file, or "
            "the encoder that it was made with."
        )
    whose = (place.parent / whose).resolve()
    if folder is not None and whose != folder.resolve():
        raise InputError(f"'{place}' is the index of another folder ({whose}): choose another file.")
    return _Held(whose, names, stamps, features)


def _checked(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[str]]:
    """The features, stamps and names of an index. Raises KeyError and ValueError where they are none; whether
    the features are numbers is seen when they are searched, since they are mapped."""
    features, stamps, listed = tensors["features"], tensors["stamps"], tensors["names"]
    if features.dtype != torch.float32 or features.ndim != 2 or not features.numel():
        raise ValueError("its features are no list of vectors")
    if stamps.dtype != torch.int64 or stamps.shape != (len(features), 2):
        raise ValueError("its stamps are not two whole numbers a picture")
    if listed.dtype != torch.uint8 or listed.ndim != 1:
        raise ValueError("its names are no text")
    names = bytes(listed.numpy()).decode(errors=ODD_NAMES).split("\0")
    if len(set(names)) != len(features):
        raise ValueError("its lists are of different lengths")
    for name in names:
        if not name or os.path.isabs(name) or os.path.splitdrive(name)[0] or ".." in name.split("/"):
            raise ValueError("a name leads out of its folder")
    return features, stamps, names


def _library(held: _Held, tower: VisualTower, folder: Path, place: Path, fast: bool) -> Library:
    shortcut = None
    made = place.with_name(f"{place.stem}.{held.digest}.faiss")
    others = [p for p in place.parent.glob(f"{glob.escape(place.stem)}.*.faiss") if p != made]
    try:
        if files.is_file(made):
            shortcut = nearest.load(made)
        elif fast or others:
            shortcut = nearest.build(held.features)
            shortcut.save(made)
            for old in others:
                old.unlink()
        elif len(held.names) >= FAST_FROM:
            log.warning(
                "The library holds %d pictures: `aai library index --fast` answers sooner.", len(held.names)
            )
    except InputError as error:
        if fast:
            raise
        log.warning("%s (until then the plain product answers).", error)
    return Library(tower, folder, held.names, held.features, place, shortcut)
