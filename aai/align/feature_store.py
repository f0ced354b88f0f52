"""The frozen towers' features of files, kept on disk or in memory: an epoch then runs the audio tower only.

A `DiskStore` is a growing array [N, ...] in a folder: raw numbers that are memory-mapped, and a journal that
says which file gave which rows. A row counts once its line is in the journal and its numbers are there, so a
process that is killed loses a few files' work, and so does a store that was torn while it was copied. Each
process writes parts of its own and all read all parts: several trainings may share one store, at the same
time too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.clips import File
from ..errors import InputError

FLOATS = {torch.float16: np.float16, torch.float32: np.float32}
TOLD = 315_705_600
"""The 3rd of January 1980: archives write an earlier time, 0 or the 1st, where they keep none."""
BEGINNING = 2**20
"""Bytes."""
Entry = tuple[str, Tensor]
"""A file as `stamp` names it, and the rows [n, ...] that it gave."""


def stamp(file: File, folder: Path | None = None) -> str:
    """Names a file, or a member of a shard, in its present version: by its path, size and time, and by its
    first BEGINNING where an archive has kept no time. The path is relative to `folder`, where one is given,
    so that a copy of that folder with the same times has the same names. Raises InputError for a file that is
    missing."""
    try:
        state = file.path.stat()
    except OSError as error:
        raise InputError(f"'{file}' cannot be read ({error.strerror}): prepare the data again.") from error
    path = Path(os.path.relpath(file.path, folder)) if folder else file.path.resolve()
    version = f"{state.st_size} {state.st_mtime_ns}"
    if state.st_mtime < TOLD:
        version += f" {_content(file)}"
    return f"{path.as_posix()} {file.offset} {file.size} {version}"


def _content(file: File) -> str:
    """A digest of a file's beginning."""
    try:
        with file.path.open("rb") as opened:
            opened.seek(file.offset)
            beginning = opened.read(BEGINNING if file.size is None else min(file.size, BEGINNING))
    except OSError as error:
        raise InputError(f"'{file}' cannot be read ({error.strerror}): prepare the data again.") from error
    return hashlib.blake2b(beginning, digest_size=8).hexdigest()


def _lines(journal: Path) -> list[bytes]:
    """The complete lines of a journal, without what a killed process left after the last."""
    return journal.read_bytes().split(b"\n")[:-1]


def _entry(line: bytes) -> tuple[str, int] | None:
    """A journal's line: the file and how many rows it gave; None where it is torn."""
    try:
        entry = json.loads(line)
        name, rows = entry["file"], entry["rows"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (name, rows) if isinstance(name, str) and type(rows) is int and rows >= 0 else None


def _key(stamp: str) -> bytes:
    # There may be millions of pictures: their paths would take gigabytes. A path need not be valid Unicode.
    return hashlib.blake2b(stamp.encode(errors="surrogatepass"), digest_size=12).digest()


class MemoryStore:
    """Rows in memory: for a data set that is encoded for a single training."""

    def __init__(self) -> None:
        self.known: dict[str, range] = {}
        self.parts: list[Tensor] = []
        self.count = 0

    def find(self, stamp: str) -> range | None:
        return self.known.get(stamp)

    def add(self, entries: list[Entry]) -> None:
        for name, rows in entries:
            self.known[name] = range(self.count, self.count + len(rows))
            self.count += len(rows)
            self.parts.append(rows)

    def reopen(self) -> Tensor:
        """All rows, [N, ...]."""
        return torch.cat(self.parts)


class DiskStore:
    """Rows of one shape on disk, by the file that they come from, as `stamp` names it.

    `folder` is this array's own; `shape` a row's. Rows are stored as float16 or float32. Indexing with a list
    of row numbers reads them as [n, *shape], float32. Raises InputError where the folder cannot be made.
    """

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype):
        self.folder, self.shape, self.dtype = folder, tuple(shape), np.dtype(FLOATS[dtype])
        self.width = math.prod(shape)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._write_error(error) from error
        self._begin_part()
        self.reopen()

    def _begin_part(self) -> None:
        part = self.folder / uuid.uuid4().hex
        self.data, self.journal = part.with_suffix(".bin"), part.with_suffix(".jsonl")

    def reopen(self) -> DiskStore:
        """Reads the journals again, and with them the rows of every process; all rows get new numbers.

        What a copy or a power cut has torn does not count, so that its files are encoded again.
        """
        self.known: dict[bytes, range] = {}
        self.maps: list[np.ndarray] = []
        self.first = [0]
        for journal in sorted(self.folder.glob("*.jsonl")):
            data = journal.with_suffix(".bin")
            try:
                lines = _lines(journal)
                stored = data.stat().st_size // (self.width * self.dtype.itemsize) if lines else 0
                rows = np.memmap(data, self.dtype, "r", shape=(stored, self.width)) if stored else None
            except OSError:
                continue
            begin = end = self.first[-1]
            for line in lines:
                entry = _entry(line)
                # Where the rows behind a torn line are, nothing tells.
                if entry is None or end + entry[1] > begin + stored:
                    break
                name, count = entry
                self.known[_key(name)] = range(end, end + count)
                end += count
            if end > begin:
                self.maps.append(rows)
                self.first.append(end)
        return self

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        places = np.asarray(rows, dtype=np.int64)
        parts = np.searchsorted(self.first, places, side="right") - 1
        read = np.empty((len(places), self.width), np.float32)
        for i, (part, place) in enumerate(zip(parts.tolist(), places.tolist())):
            read[i] = self.maps[part][place - self.first[part]]
        return torch.from_numpy(read).view(len(places), *self.shape)

    def find(self, stamp: str) -> range | None:
        """The numbers of the rows of this file in this version; None where they are not stored."""
        return self.known.get(_key(stamp))

    def add(self, entries: list[Entry]) -> None:
        """Adds the entries to this process's part; `find` knows them after `reopen`.

        Raises InputError where they cannot be written; what was stored before stays.
        """
        try:
            with self.data.open("ab") as file:
                for _, rows in entries:
                    array = rows.detach().cpu().reshape(len(rows), self.width).numpy()
                    file.write(array.astype(self.dtype).tobytes())
                file.flush()
                os.fsync(file.fileno())
            with self.journal.open("a", encoding="utf-8") as file:
                for name, rows in entries:
                    file.write(json.dumps({"file": name, "rows": len(rows)}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # After a partial write, the next rows would not be where the journal says.
            self._begin_part()
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> InputError:
        return InputError(
            f"The towers' features cannot be stored in '{self.folder}' ({error.strerror or error}): make "
            "room there, or give another folder; what is stored already will be used."
        )
