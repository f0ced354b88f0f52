"""Preparing a dataset: videos, or sounds and frames, become clips to train on.

    OUT/clips.jsonl        the clips, a line each: what `clips.scan` reads
    OUT/bad.csv            what could not be used, and why
    OUT/dataset.json       the settings, and the source's place
    OUT/clips/ID/          sound.flac, 0.jpg ... 9.jpg; or OUT/shard-000000.tar ...

Clips are made in parallel, each in a work folder that is moved into place when it is whole, and noted in a
journal (progress.jsonl). So a run that was stopped, in whatever way, resumes, and ends with the same files.
Where the list or the files have changed since, clips follow them; a clip whose source is gone stays, in a
shard until that has to be made again.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path

from .. import files
from ..errors import InputError, encodable
from .clip_writer import WORK, Outcome, PrepareSettings, Unit, full, make_unit
from .clips import MANIFEST, UNFINISHED, from_row, is_plain, read_rows
from .csv_list import read_labels
from .listing import MISSING, Item, find, list_of
from .stamps import stamp, with_gone

SETTINGS, BAD = "dataset.json", "bad.csv"


@dataclass(frozen=True)
class Prepared:
    """What a run ended with: the clips, how many of each label, and (id, label, reason) of the bad ones."""

    clips: int
    labels: dict[str, int]
    bad: list[tuple[str, str, str]]


def prepare(
    source: str | os.PathLike,
    out: str | os.PathLike,
    settings: PrepareSettings | None = None,
    listed: str | os.PathLike | None = None,
    labels: str | os.PathLike | None = None,
    workers: int = 1,
    retry: bool = False,
    device: str = "cpu",
    callback: Callable[[int, int, int], None] | None = None,
) -> Prepared:
    """Makes the dataset `out` of `source` (`listing.find`), or what is left to make of it.

    `workers` processes; `retry` tries what was bad before once more; `callback(done, total, bad)`, in clips,
    may raise to stop. Raises InputError for a source that names nothing, an `out` that holds something
    else or was begun with other settings or another source, a CLIP that cannot be loaded, and a disk that
    does not take it: finished clips stay, and the next run resumes. So it is where not one clip can be used.
    """
    source, out, settings = Path(source), Path(out), settings or PrepareSettings()
    items = find(source, listed and Path(listed), labels and Path(labels))
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise InputError(f"'{out}' lies within its own source: choose a folder outside of '{source}'.")
    _begin(out, source, asdict(settings))
    rows, bad = _done(out, retry)
    stamps = {item.id: stamp(item, source, settings.frames) for item in items}
    if not list_of(source, listed and Path(listed)):
        items = with_gone(items, rows, stamps, labels and read_labels(Path(labels)))
    _update(items, rows, stamps, settings)
    units = _units(items, settings)
    left = [unit for unit in units if not _is_done(unit, rows, bad, stamps, settings)]
    total, done = len(items), len(items) - sum(len(unit.items) for unit in left)
    if left:
        _restart_journal(out, rows, bad)
        with (out / UNFINISHED).open("a", encoding="utf-8", errors="replace") as journal:
            for unit, outcome in _make_all(left, out, settings, workers, device):
                if outcome.error:
                    raise InputError(outcome.error)
                outcome = replace(outcome, rows=[_stamped(row, stamps) for row in outcome.rows])
                made = {row["id"]: row for row in outcome.rows}
                for item in unit.items:
                    bad.pop(item.id, None)
                    if item.id not in made:
                        rows.pop(item.id, None)
                rows.update(made)
                bad.update({row[0]: row for row in outcome.bad})
                _note(journal, outcome, out)
                done += len(unit.items)
                if callback:
                    callback(done, total, len(bad))
    made = _finish(out, items, rows, bad)
    if not made.clips:
        id, _, reason = made.bad[0]
        raise InputError(
            f"None of the {total} clips of '{source}' can be used (the first, {id}: {reason}): mend what "
            f"'{out / BAD}' lists."
        )
    return made


def _begin(out: Path, source: Path, settings: dict[str, object]) -> None:
    """Makes the folder, or checks that it is a dataset begun with the same settings, of the same source."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in out.iterdir())
    except OSError as error:
        raise InputError(f"'{out}' cannot be made ({error.strerror}): choose another folder.")
    place = _place(source, out)
    if is_plain(out / SETTINGS):
        try:
            before = json.loads((out / SETTINGS).read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            before = {}
        if not isinstance(before, dict):
            before = {}
        changed = next((name for name in settings if before.get(name) != settings[name]), None)
        if changed:
            raise InputError(
                f"'{out}' was begun with {changed} {before.get(changed)!r}, not {settings[changed]!r}: "
                "choose another folder, or the same settings."
            )
        # Earlier versions did not keep it.
        if before.get("source", place) != place:
            raise InputError(
                f"'{out}' was begun with the source {before['source']!r}, seen from there, not {place!r}: "
                f"choose another folder, or write where a source that was moved is now into '{SETTINGS}'."
            )
    elif [name for name in there if not name.startswith(".")]:
        raise InputError(f"'{out}' holds other files ({there[0]}): choose a folder that is new or empty.")
    content = json.dumps({**settings, "source": place}, indent=1).encode()
    files.write(out / SETTINGS, content, "The dataset's settings")
    shutil.rmtree(out / WORK, ignore_errors=True)
    (out / WORK).mkdir(exist_ok=True)


def _place(source: Path, out: Path) -> str:
    """Where the source is, from the dataset: both may be moved together."""
    there, here = os.path.realpath(source), os.path.realpath(out)
    try:
        there = os.path.relpath(there, here)
    except ValueError:  # Another drive.
        pass
    return encodable(Path(there).as_posix())


def _done(out: Path, retry: bool) -> tuple[dict[str, dict], dict[str, list[str]]]:
    """Rows and bad clips by id, of a finished run and of one that was stopped."""
    rows, bad = {}, {}
    # A journal begins with the rows that its run went on with.
    if is_plain(out / MANIFEST) and not is_plain(out / UNFINISHED):
        rows = {row["id"]: row for row in read_rows(out / MANIFEST)}
    if is_plain(out / BAD):
        try:
            with (out / BAD).open(newline="", encoding="utf-8-sig") as file:
                bad = {row[0]: _bad(row) for row in list(csv.reader(file))[1:]}
        except (ValueError, IndexError, csv.Error) as error:
            raise InputError(
                f"'{out / BAD}' cannot be read ({error}): take {MANIFEST} and {BAD} away, and all is made "
                "anew."
            )
    for made, failed in _journal(out):
        for row in failed:
            rows.pop(row[0], None)
            bad[row[0]] = row
        for row in made:
            bad.pop(row["id"], None)
            rows[row["id"]] = row
    return rows, {} if retry else bad


def _journal(out: Path) -> Iterator[tuple[list[dict], list[list[str]]]]:
    """The rows and the bad clips of every line of a journal."""
    path = out / UNFINISHED
    lines = path.read_bytes().splitlines() if is_plain(path) else []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line.decode())
        except (ValueError, RecursionError):
            # The line that was being written when the run was killed: its clips are made again.
            continue
        try:
            made, failed = entry
            for row in made:
                from_row(row, out)
            yield made, [_bad(row) for row in failed]
        except (ValueError, TypeError) as error:
            raise InputError(
                f"Line {number} of '{path}' cannot be read ({error}): take the file away, and its clips are "
                "made anew."
            )


def _bad(row: object) -> list[str]:
    """A bad clip's id, label and reason. Raises ValueError for anything else."""
    if not isinstance(row, list) or len(row) != 3 or not all(isinstance(cell, str) for cell in row):
        raise ValueError("a bad clip has an id, a label and a reason")
    return row


def _restart_journal(out: Path, rows: dict[str, dict], bad: dict[str, list[str]]) -> None:
    """Writes the journal anew, without torn lines, to append to."""
    content = json.dumps([list(rows.values()), list(bad.values())], ensure_ascii=False) + "\n"
    files.write(out / UNFINISHED, content.encode(errors="replace"), "The dataset's journal")


def _note(journal: io.TextIOBase, outcome: Outcome, out: Path) -> None:
    try:
        journal.write(json.dumps([outcome.rows, outcome.bad], ensure_ascii=False) + "\n")
        journal.flush()
    except OSError as error:
        raise InputError(full(out, error))


def _units(items: list[Item], settings: PrepareSettings) -> list[Unit]:
    if not settings.shard:
        return [Unit(f"clips/{item.id}", (item,)) for item in items]
    parts = [items[i : i + settings.shard] for i in range(0, len(items), settings.shard)]
    return [Unit(f"shard-{number:06d}.tar", tuple(part)) for number, part in enumerate(parts)]


def _update(
    items: list[Item], rows: dict[str, dict], stamps: dict[str, str], settings: PrepareSettings
) -> None:
    """Updates the rows' labels and splits from the list where nothing else of a clip depends on them, and
    stamps the rows of versions that did not."""
    for item in items:
        row = rows.get(item.id)
        if not row:
            continue
        # With a CLIP, the label has chosen the frames; a shard holds its clips' labels.
        free = not settings.shard and (not settings.clip or row["label"] == item.label)
        if free and item.why in ("", MISSING):
            row = {**row, "label": item.label, "split": item.split}
        rows[item.id] = row if "source" in row else _stamped(row, stamps)


def _stamped(row: dict, stamps: dict[str, str]) -> dict:
    own = stamps.get(row["id"])
    return {**row, "source": own} if own else row


def _is_done(unit: Unit, rows: dict, bad: dict, stamps: dict[str, str], settings: PrepareSettings) -> bool:
    for item in unit.items:
        row, failed = rows.get(item.id), bad.get(item.id)
        # A list that has changed may want the clip in another shard, called otherwise, or not at all.
        if row:
            if settings.shard and row["sound"][0] != unit.name:
                return False
            if (row["label"], row["split"]) != (item.label, item.split) or item.why not in ("", MISSING):
                return False
            own = stamps.get(item.id)
            if own and row.get("source", own) != own:
                return False
        elif not failed or failed[1] != item.label or item.why not in ("", failed[2]):
            return False
    return True


def _finish(out: Path, items: list[Item], rows: dict[str, dict], bad: dict[str, list[str]]) -> Prepared:
    order = [item.id for item in items]
    kept = [rows[id] for id in order if id in rows]
    failed = [tuple(bad[id]) for id in order if id in bad]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([("id", "label", "reason"), *failed])
    files.write(out / BAD, table.getvalue().encode(errors="replace"), "The list of bad clips")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    files.write(out / MANIFEST, lines.encode(errors="replace"), "The list of clips")
    (out / UNFINISHED).unlink(missing_ok=True)
    shutil.rmtree(out / WORK, ignore_errors=True)
    labels: dict[str, int] = {}
    for row in kept:
        labels[row["label"]] = labels.get(row["label"], 0) + 1
    return Prepared(len(kept), dict(sorted(labels.items())), failed)


# --- in parallel


def _make_all(
    units: list[Unit], out: Path, settings: PrepareSettings, workers: int, device: str
) -> Iterator[tuple[Unit, Outcome]]:
    """Every unit and its outcome, in the order in which they are finished."""
    if workers <= 1:
        for unit in units:
            yield unit, make_unit(unit, out, settings, device)
        return
    # Spawned, since a forked process may use neither a GPU nor torch's threads.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _join_in)
    try:
        waiting, queue = {}, iter(units)
        while True:
            # A few at a time, since a set may be large.
            for unit in queue:
                waiting[pool.submit(make_unit, unit, out, settings, device)] = unit
                if len(waiting) >= 4 * workers:
                    break
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise InputError(
            "A process that made clips was ended from outside, for memory perhaps: use fewer workers and run "
            "the same again; it resumes where it stopped."
        )
    finally:
        pool.shutdown(cancel_futures=True)


def _join_in() -> None:
    """Starts a worker process: one thread, no interrupts of its own, and an end with its parent."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
