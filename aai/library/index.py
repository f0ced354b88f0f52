"""A library's index: the features of a folder's pictures in one file, and the list of the pictures with their
sizes and times, so that only what has changed is embedded again.

The features are mapped, not read, but on Windows, where a mapped file cannot be replaced. The file lies
beside the pictures, one for each visual tower, or anywhere.
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
from ..errors import InputError, encodable, logger
from . import nearest
from .retrieval import Library
from .towers import VisualTower

log = logger(__name__)

FORMAT = "aai-picture-library-1"
ODD_NAMES = "surrogatepass"
"""How names of files that are not Unicode are encoded: Python has surrogates for what it cannot decode."""
SAVE_EVERY = 60.0
"""Seconds after which new features are written, so that a killed run resumes there."""
SAVING = 0.05
"""The share of the time that this may take, where the library is large."""
HEADING = 1 << 16
"""Bytes within which an index names its format."""
FAST_FROM = 300_000
"""The number of pictures from which a plain product is slow."""


def index(
    folder: str | os.PathLike,
    tower: VisualTower,
    file: str | os.PathLike | None = None,
    *,
    fast: bool = False,
    batch: int = 32,
    callback: Callable[[int, int], None] | None = None,
) -> Library:
    """The library of a folder's pictures, those of its subfolders included, embedded by a tower.

    Features in the index `file` (None: beside the pictures) are reused; new and changed pictures are
    embedded, those that are gone are dropped, and the file is replaced in one move. Other files are left out,
    with a warning. Where the folder cannot be written, or a link or another's file has the name of its index,
    the library stays in memory, with a warning. `fast` makes FAISS's index beside the file, which is then
    kept up to date.

    callback(done, total) counts the pictures that had to be embedded; it may raise to cancel, and the
    features so far are kept. Raises InputError where no picture is left, for a `file` of another tower or
    folder, and for `fast` without FAISS.
    """
    folder = Path(folder)
    present, others = _scan(folder)
    if others:
        log.warning(
            "Left out of '%s', since their endings are no pictures': %d ('%s' for one).",
            *(folder, len(others), others[0]),
        )
    place = default_file(folder, tower) if file is None else Path(file)
    readable = files.is_file(place) and (file is not None or _begins_as_ours(place))
    stored = _read(place, tower, folder) if readable else None
    if fast:
        nearest.available()
    stamps = {} if stored is None else dict(zip(stored.names, stored.rows_and_stamps()))
    kept = {name: stamps[name][0] for name, stamp in present.items() if stamps.get(name, (0, 0))[1] == stamp}
    waiting = [name for name in present if name not in kept]
    if stored is not None and not waiting and len(kept) == len(stored.names):
        return _library(stored, tower, folder, place, fast)
    new: dict[str, Tensor] = {}
    saves, due = True, time.monotonic() + SAVE_EVERY
    # `stored` is dropped before the file is written: some systems cannot replace a mapped file.
    try:
        for name, feature in _embed(folder, waiting, tower, batch, callback):
            if kept and len(feature) != stored.features.shape[1]:
                raise InputError(
                    f"'{place}' holds {stored.features.shape[1]} numbers of a picture, not {len(feature)}: "
                    "delete it, and it is made again."
                )
            new[name] = feature
            if saves and time.monotonic() >= due:
                began, merged = time.monotonic(), _merged(stored, kept, new, present)
                stored = None
                saves = _write(place, merged, tower, folder, file is None)
                stored = (_read(place, tower, folder) if saves else None) or merged
                kept, new = {name: row for row, name in enumerate(stored.names)}, {}
                due = time.monotonic() + max(SAVE_EVERY, (time.monotonic() - began) / SAVING)
    except BaseException:
        if new and saves:
            merged = _merged(stored, kept, new, present)
            stored = None
            # The exception on its way up matters more than that this failed too.
            with contextlib.suppress(InputError):
                _write(place, merged, tower, folder, file is None)
        raise
    if not kept and not new:
        raise InputError(f"None of the {len(present)} pictures in '{folder}' can be read: put others in it.")
    merged = _merged(stored, kept, new, present)
    stored = None
    stored = _read(place, tower, folder) if _write(place, merged, tower, folder, file is None) else None
    if stored is None:
        return Library(tower, folder, merged.names, merged.features)
    return _library(stored, tower, folder, place, fast)


def read(file: str | os.PathLike, tower: VisualTower) -> Library:
    """A library from its index alone, without looking at the pictures.

    Raises InputError for a file that is no index, and for one of another tower.
    """
    file = Path(file)
    if not files.is_file(file):
        raise InputError(f"There is no index '{file}': index the folder of pictures first.")
    stored = _read(file, tower, None)
    if stored is None:
        raise InputError(f"'{file}' is no whole index of a library: index the folder again.")
    return _library(stored, tower, stored.folder, file, False)


def default_file(folder: Path, tower: VisualTower) -> Path:
    """The path of a folder's index for a tower: beside the pictures."""
    return folder / f".aai-library-{tower.key}.safetensors"


def scan(folder: str | os.PathLike) -> dict[str, tuple[int, int]]:
    """{path within the folder: (bytes, time of change in ns)} of its pictures, by name, those behind links
    included. Hidden files and folders are left out, and so, with a warning, are folders that cannot be read.
    Raises InputError where there is no picture."""
    return _scan(Path(folder))[0]


def _scan(folder: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """What `scan` gives, and the files that are left out because of their endings."""
    if not files.is_dir(folder):
        raise InputError(f"There is no folder of pictures '{folder}': check its name.")
    suffixes = image.suffixes()
    pictures, others = {}, []
    for entry in filter(files.is_file, files.walk(folder)):
        name = Path(entry.path).relative_to(folder).as_posix()
        if os.path.splitext(entry.name)[1].lower() in suffixes:
            # It may be gone by now.
            with contextlib.suppress(OSError):
                stat = entry.stat()
                pictures[name] = stat.st_size, stat.st_mtime_ns
        else:
            others.append(name)
    if not pictures:
        raise InputError(
            f"The folder '{folder}' holds no pictures{_counted(others)}: put some in it (png, jpg, webp, "
            "avif, gif, bmp, tif)."
        )
    return dict(sorted(pictures.items())), sorted(others)


def _counted(names: Sequence[str]) -> str:
    """How many other files there are, with the first of them; "" for none."""
    if not names:
        return ""
    return f", by their endings, among its files ({len(names)}, '{min(names)}' for one)"


@dataclass(frozen=True, eq=False)
class _Index:
    """The content of an index; features [N, dim] and stamps (bytes, ns) [N, 2] may be mapped."""

    folder: Path
    names: list[str]
    stamps: Tensor
    features: Tensor

    def rows_and_stamps(self) -> Iterator[tuple[int, tuple[int, int]]]:
        return ((row, tuple(stamp)) for row, stamp in enumerate(self.stamps.tolist()))

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(_bytes_of(self.names))
        digest.update(self.stamps.numpy().tobytes())
        return digest.hexdigest()[:12]


def _merged(
    stored: _Index | None, kept: dict[str, int], new: dict[str, Tensor], present: dict[str, tuple[int, int]]
) -> _Index:
    names = [name for name in present if name in kept or name in new]
    dim = len(next(iter(new.values()))) if new else stored.features.shape[1]
    features = torch.empty(len(names), dim)
    for row, name in enumerate(names):
        features[row] = new[name] if name in new else stored.features[kept[name]]
    return _Index(Path(), names, torch.tensor([present[name] for name in names]), features)


def _embed(
    folder: Path,
    names: Sequence[str],
    tower: VisualTower,
    batch: int,
    callback: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, Tensor]]:
    """(name, feature [dim]) of every picture that can be read; decoded ahead of the tower."""

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


def _write(place: Path, stored: _Index, tower: VisualTower, folder: Path, beside: bool) -> bool:
    """Whether the index could be written; beside the pictures, it is not an error if it could not."""
    tensors = {
        "features": stored.features,
        "stamps": stored.stamps,
        # A tensor, because a safetensors header may have 100 MB at most.
        "names": _as_tensor(stored.names),
    }
    indexed = "." if place.parent.resolve() == folder.resolve() else str(folder.resolve())
    if encodable(indexed) != indexed:
        # Nor may its texts be anything but UTF-8.
        tensors["folder"], indexed = _as_tensor([indexed]), ""
    metadata = {"format": FORMAT, "tower": tower.name, "key": tower.key, "folder": indexed}
    try:
        if beside:
            _check_replaceable(place)
        files.write_safetensors(place, tensors, metadata, "The library's index")
    except InputError as error:
        if not beside:
            raise
        log.warning("%s The library is kept in memory this time.", error)
        return False
    return True


def _check_replaceable(place: Path) -> None:
    """Raises InputError for a link, and for a file that is no index of ours.

    Nobody chose the name of an index beside the pictures: in another's folder, it may be a link that leads to
    any file.
    """
    if os.path.islink(place) or (files.is_file(place) and not _begins_as_ours(place)):
        raise InputError(
            f"'{place}' is a link, or not an index that this package wrote, and is not replaced: remove it."
        )


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is an index that this package wrote."""
    return files.metadata(path).get("format") == FORMAT


def _begins_as_ours(path: Path) -> bool:
    """Whether a file begins as an index that this package wrote, be it damaged further on."""
    try:
        with open(path, "rb") as file:
            heading = file.read(HEADING)
    except OSError:
        return False
    return heading[8:].startswith(b'{"__metadata__"') and FORMAT.encode() in heading


def _bytes_of(names: Sequence[str]) -> bytes:
    return "\0".join(names).encode(errors=ODD_NAMES)


def _as_tensor(names: Sequence[str]) -> Tensor:
    return torch.frombuffer(bytearray(_bytes_of(names)), dtype=torch.uint8)


def _names_of(listed: Tensor) -> list[str]:
    """The inverse of `_as_tensor`. Raises ValueError for a tensor that holds no text."""
    if listed.dtype != torch.uint8 or listed.ndim != 1:
        raise ValueError("its names are no text")
    return bytes(listed.numpy()).decode(errors=ODD_NAMES).split("\0")


def _read(place: Path, tower: VisualTower, folder: Path | None) -> _Index | None:
    """An index, its features mapped where that lets others replace it; None, with a warning, where the file
    is damaged. Raises InputError for another tower's or folder's."""
    try:
        tensors, notes = files.read_safetensors(place, mapped=files.REPLACES_MAPPED)
        if notes.get("format") != FORMAT:
            raise ValueError("another format")
        features, stamps, names = _checked(tensors)
        key, indexed, tower_name = notes["key"], notes["folder"], notes["tower"]
        if "folder" in tensors:
            indexed = _names_of(tensors["folder"])[0]
    except (KeyError, ValueError) as error:
        log.warning("'%s' is no whole index of a library (%s).", place, error)
        return None
    if key != tower.key:
        raise InputError(
            f"'{place}' is the index of another visual tower ({tower_name}): choose another file, or "
            "the encoder that it was made with."
        )
    indexed = (place.parent / indexed).resolve()
    if folder is not None and indexed != folder.resolve():
        raise InputError(f"'{place}' is the index of another folder ({indexed}): choose another file.")
    return _Index(indexed, names, stamps, features)


def _checked(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[str]]:
    """The features, stamps and names of an index. Raises KeyError and ValueError where they are not that;
    whether the features are finite is left to a search, since they are mapped."""
    features, stamps, listed = tensors["features"], tensors["stamps"], tensors["names"]
    if features.dtype != torch.float32 or features.ndim != 2 or not features.numel():
        raise ValueError("its features are no list of vectors")
    if stamps.dtype != torch.int64 or stamps.shape != (len(features), 2):
        raise ValueError("its stamps are not two whole numbers a picture")
    names = _names_of(listed)
    if len(set(names)) != len(features):
        raise ValueError("its lists are of different lengths")
    for name in names:
        if not name or os.path.isabs(name) or os.path.splitdrive(name)[0] or ".." in name.split("/"):
            raise ValueError("a name leads out of its folder")
    return features, stamps, names


def _library(stored: _Index, tower: VisualTower, folder: Path, place: Path, fast: bool) -> Library:
    shortcut = None
    current = place.with_name(f"{place.stem}.{stored.digest}.faiss")
    others = [p for p in place.parent.glob(f"{glob.escape(place.stem)}.*.faiss") if p != current]
    try:
        if files.is_file(current):
            shortcut = nearest.load(current)
        elif fast or others:
            _check_replaceable(current)
            shortcut = nearest.build(stored.features)
            shortcut.save(current)
            for old in others:
                old.unlink()
        elif len(stored.names) >= FAST_FROM:
            log.warning(
                "The library holds %d pictures: a fast index (FAISS) answers sooner.", len(stored.names)
            )
    except InputError as error:
        if fast:
            raise
        log.warning("%s (until then the plain product answers).", error)
    return Library(tower, folder, stored.names, stored.features, place, shortcut)
