"""Examples in a forked process that is watched: by a clock, by its memory, and by what it leaves behind."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import multiprocessing
import os
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from aai.errors import SCREEN, InputError, is_out_of_memory

from . import actions
from .example import Example

ROOT = Path(__file__).parents[2]
SECONDS, BYTES = 20.0, 2 * 2**30
"""What an example may take at most."""
LONGEST, IDLE = 300.0, 10.0
"""Seconds on a busy machine in which an example asks for neither the processor nor the disk: in all, and
without having had the processor."""
HEADROOM = BYTES + 2**30
"""How much address space a process may add: more than BYTES, since not all that is reserved is used."""

RESULT, SENTENCE, TRACEBACK, HANG, MEMORY = "result", "sentence", "traceback", "hang", "over memory"
OUTSIDE, EXECUTED = "outside", "executed"
OUTCOMES = (RESULT, SENTENCE, TRACEBACK, HANG, MEMORY, OUTSIDE, EXECUTED)


@dataclass(frozen=True)
class Outcome:
    """What an example came to: one of OUTCOMES, what it said, and where in our code it ended."""

    kind: str
    text: str = ""
    where: str = ""
    seconds: float = 0.0
    peak: int = 0


def place_of(error: BaseException) -> str:
    """The innermost frame of our own code: "aai/audio.py:12"."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if re.match(r"(aai|nodes)/", os.path.relpath(f.filename, ROOT))]
    last = (own or frames)[-1]
    return f"{os.path.relpath(last.filename, ROOT)}:{last.lineno}"


def _fault_of(sentence: str) -> str:
    """What is wrong with a sentence for a person; "" where nothing is."""
    if sentence.encode("utf-8", "replace").decode() != sentence:
        return "it is no UTF-8"
    if "\n" in sentence:
        return "it has several lines"
    return f"it has {len(sentence)} characters" if len(sentence) > SCREEN + 20 else ""


def attempt(example: Example) -> Outcome:
    """Runs an example in this process, in the working folder."""
    before = _start_peak()
    begin = time.monotonic()
    try:
        text, kind = actions.run(example) or "", RESULT
        where = ""
    except (InputError, actions.Refused) as error:
        text, kind, where = str(error), SENTENCE, place_of(error)
        if fault := _fault_of(text):
            text, kind = f"{fault}: {text}", TRACEBACK
    # SystemExit too: only the command line may end a process.
    except BaseException as error:
        text, where = traceback.format_exc(), f"{type(error).__name__} {place_of(error)}"
        kind = MEMORY if is_out_of_memory(error) else TRACEBACK
    outcome = Outcome(kind, text, where, time.monotonic() - begin, max(_peak() - before, 0))
    if outcome.peak > BYTES and kind != MEMORY:
        outcome = replace(outcome, kind=MEMORY, where=f"{outcome.peak / 2**30:.1f} GB {where}")
    return outcome


def _start_peak() -> int:
    """Lets the kernel measure the peak anew; the bytes in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return 0
    return _peak()


def _peak() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _serve(connection: Connection, root: Path, box: Path, log: Path) -> None:
    # A group of its own, so that its own processes can be ended with it.
    os.setpgid(0, 0)
    os.environ |= {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp")}
    tempfile.tempdir = None
    with log.open("ab") as file, open(os.devnull, "rb") as nothing:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        os.dup2(nothing.fileno(), 0)
    faulthandler.register(signal.SIGUSR1, file=2)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # torch makes its pool of threads anew in a fork, and two threads that are the first to need it fail at
    # it ("Invalid thread pool!").
    torch.set_num_threads(1)
    while True:
        try:
            example = connection.recv()
        except EOFError:
            return
        os.chdir(box)
        connection.send(attempt(example))


def processor_seconds(pid: int) -> float:
    """Seconds of the processor that a process has had; infinity for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return math.inf
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def ends_in_time(poll: Callable[[float], bool], pid: int, spent: float, seconds: float | None = None) -> bool:
    """Whether `poll(timeout)` comes true in `seconds` (None: SECONDS), or, where others take the processor,
    before process `pid` has had as many since it had `spent`."""
    seconds = SECONDS if seconds is None else seconds
    if poll(seconds):
        return True
    used, idle, waited = processor_seconds(pid) - spent, 0.0, 0.0
    # Idle, it waits for what does not come.
    while used < seconds and idle < IDLE and waited < LONGEST:
        begin = time.monotonic()
        if poll(0.5):
            return True
        before, used = used, processor_seconds(pid) - spent
        if _is_kept_waiting(pid):
            idle = 0.0
            continue
        took = time.monotonic() - begin
        idle, waited = 0.0 if used > before else idle + took, waited + took
    return False


def _is_kept_waiting(pid: int) -> bool:
    """Whether one of a process's threads runs, or would if others did not, or reads or writes a disk."""
    states = []
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(path.read_text(encoding="utf-8").rpartition(")")[2].split()[0])
    return not {"R", "D"}.isdisjoint(states)


class Watched:
    """Runs examples one after another; one that hangs or ends its process costs only a new fork.

    `root` becomes: box/, the folder of an example's files; everything else in it must stay as it is.
    """

    def __init__(self, root: Path):
        self.box, self.root = root / "above" / "box", root
        self.log = root.parent / f"{root.name}.log"
        self.marker = root / actions.MARKER
        for folder in ("above", "home", "tmp"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "above" / "kept.txt").write_text("kept", encoding="utf-8")
        os.environ["AAI_FUZZ_MARKER"] = str(self.marker)
        self.process = None

    def run(self, example: Example) -> Outcome:
        shutil.rmtree(self.box, ignore_errors=True)
        self.box.mkdir(parents=True)
        example.write(self.box)
        before = self._listing()
        if self.process is None:
            self._start()
        spent = processor_seconds(self.process.pid)
        self.connection.send(example)
        try:
            if ends_in_time(self.connection.poll, self.process.pid, spent):
                outcome = self.connection.recv()
            else:
                outcome = Outcome(HANG, where=self._stack(), seconds=SECONDS)
                self.stop()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            outcome = Outcome(TRACEBACK, where=f"the process ended with {self.process.exitcode}")
            self.stop()
        if self.marker.exists():
            self.marker.unlink()
            return replace(outcome, kind=EXECUTED)
        if self._listing() != before:
            changed = sorted(path for path, _ in self._listing().items() ^ before.items())
            return replace(outcome, kind=OUTSIDE, where=", ".join(changed[:3]))
        return outcome

    def _listing(self) -> dict[str, tuple[int, int]]:
        passed = {self.box, self.root / "tmp", self.root / "home" / ".cache"}
        found = {}
        for folder, names, files in os.walk(self.root):
            names[:] = [name for name in names if Path(folder, name) not in passed]
            for name in files:
                facts = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (facts.st_size, facts.st_mtime_ns)
        return found

    def _start(self) -> None:
        # Forked: the models and their libraries are loaded once, by this process, which computes nothing.
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.root, self.box, self.log))
        self.process.start()
        theirs.close()

    def _stack(self) -> str:
        """The innermost line of our own code where the process stands."""
        begin = self.log.stat().st_size
        os.kill(self.process.pid, signal.SIGUSR1)
        time.sleep(1)
        text = self.log.read_bytes()[begin:].decode(errors="replace")
        frames = re.findall(r'File "([^"]+)", line (\d+)', text)
        places = [(os.path.relpath(name, ROOT), line) for name, line in frames]
        own = [place for place in places if place[0].startswith(("aai/", "nodes/"))]
        return ":".join((own or places or [("somewhere", "")])[0])

    def stop(self) -> None:
        """Ends the process and all that it has started."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.join()
        self.connection.close()
        self.process = None
