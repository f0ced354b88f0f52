"""A training's figures, step by step: a line of JSON each, and TensorBoard's where it is installed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import InputError

if TYPE_CHECKING:
    from .distributed import Distributed


LOG = "log.jsonl"


@contextlib.contextmanager
def _log(work: Path, ranks: Distributed) -> Iterator[Callable[[int, dict], None]]:
    """Gives what takes every step's figures down, on rank 0: as a line of LOG, and for TensorBoard, where it
    is installed. A training that goes on takes back what was written after its last state."""
    SummaryWriter = None
    if ranks.rank == 0:
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter
    with contextlib.ExitStack() as opened:
        lines = writer = None

        def log(step: int, figures: dict) -> None:
            nonlocal lines, writer
            if ranks.rank:
                return
            try:
                if lines is None:
                    lines = opened.enter_context((work / LOG).open("a+b"))
                    _take_back(lines, step)
                lines.write(json.dumps({"step": step, **figures}).encode() + b"\n")
                lines.flush()
            except OSError as error:
                raise InputError(
                    f"'{work / LOG}' cannot be written ({error.strerror or error}): make room there, or "
                    "choose another --work."
                ) from error
            if SummaryWriter and writer is None:
                writer = opened.enter_context(SummaryWriter(str(work / "tensorboard"), purge_step=step))
            for name, value in figures.items() if writer else ():
                writer.add_scalar(f"align/{name}", value, step)

        yield log


def _take_back(lines: BinaryIO, step: int) -> None:
    """Cuts a log off before the lines of this step and later ones, and before half a line."""
    lines.seek(0)
    kept = 0
    for line in lines:
        try:
            if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                break
        except ValueError:
            break
        kept += len(line)
    lines.truncate(kept)
