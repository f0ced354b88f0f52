"""What the frozen towers made of files, kept on the disk: an epoch then runs the audio tower only.

A `Rows` is a growing array [N, ...] in a folder: raw numbers that are memory-mapped, and a journal that says
which file gave which rows. A row counts once its line is in the journal, so whoever stops in the middle loses
a few files' work. Each process writes parts of its own and all read all parts: several trainings may share
one store, at the same time too.
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
Entry = tuple[str, Tensor]
"""A file as `stamp` names it, and the rows [n, ...] that it gave."""


def stamp(file: File, folder: Path | None = None) -> str:
    """What names a file, or a member of a shard, as it is now; within `folder`, where one is given, so that
    a copy of that folder has the same names, if it kept the times. Raises InputError where there is none."""
    try:
        state = file.path.stat()
    except OSError as error:
        raise InputError(f"'{file}' cannot be read ({error.strerror}): prepare the data again.") from error
    place = Path(os.path.relpath(file.path, folder)) if folder else file.path.resolve()
    return f"{place.as_posix()} {file.offset} {file.size} {state.st_size} {state.st_mtime_ns}"


class MemoryStore:
    """Rows in memory: for a folder that is encoded for one training and no more."""

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
    """Rows of one shape on the disk, by the file that they come from, as `stamp` names it.

    `folder` is this array's own; `shape` a row's. Rows are float16 or float32 there. Indexing with a list of
    row numbers reads them as [n, *shape], float32.
    """

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype):
        self.folder, self.shape, self.dtype = folder, tuple(shape), np.dtype(FLOATS[dtype])
        self.width = math.prod(shape)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._full(error) from error
        self._begin_part()
        self.reopen()

    def _begin_part(self) -> None:
        part = self.folder / uuid.uuid4().hex
        self.data, self.journal = part.with_suffix(".bin"), part.with_suffix(".jsonl")

    def reopen(self) -> DiskStore:
        """Reads the journals again: what any process has added counts from now on, under new numbers."""
        self.known: dict[bytes, range] = {}
        self.maps: list[np.ndarray] = []
        self.first = [0]
        for journal in sorted(self.folder.glob("*.jsonl")):
            end = self.first[-1]
            for line in _lines(journal):
                row = json.loads(line)
                self.known[_key(row["file"])] = range(end, end + row["rows"])
                end += row["rows"]
            if end > self.first[-1]:
                shape = (end - self.first[-1], self.width)
                self.maps.append(np.memmap(journal.with_suffix(".bin"), self.dtype, "r", shape=shape))
                self.first.append(end)
        return self

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        places = np.asarray(rows, dtype=np.int64)
        parts = np.searchsorted(self.first, places, side="right") - 1
        made = np.empty((len(places), self.width), np.float32)
        for i, (part, place) in enumerate(zip(parts.tolist(), places.tolist())):
            made[i] = self.maps[part][place - self.first[part]]
        return torch.from_numpy(made).view(len(places), *self.shape)

    def find(self, stamp: str) -> range | None:
        """The numbers of the rows that this file gave, as it is now."""
        return self.known.get(_key(stamp))

    def add(self, entries: list[Entry]) -> None:
        """Adds the entries to this process's part; they are found after `reopen`.

        Raises InputError where the disk does not take them; what was stored before stays.
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
        except OSError as error:
            # Behind what was written in part, rows would stand elsewhere than the journal says.
            self._begin_part()
            raise self._full(error) from error

    def _full(self, error: OSError) -> InputError:
        return InputError(
            f"The towers' features cannot be stored in '{self.folder}' ({error.strerror or error}): make "
            "room there, or give another folder; what is stored already will be used."
        )


def _lines(journal: Path) -> list[bytes]:
    """The whole lines of a journal, without what a stop left behind the last."""
    return journal.read_bytes().split(b"\n")[:-1]


def _key(stamp: str) -> bytes:
    # Millions of pictures are known by these: a path each would take gigabytes.
    return hashlib.blake2b(stamp.encode(), digest_size=12).digest()
