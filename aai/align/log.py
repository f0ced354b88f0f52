"""The log of a training: a line of JSON for each step, and TensorBoard's events where it is installed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import InputError

if TYPE_CHECKING:
    from ..distributed import Distributed


LOG = "log.jsonl"


@contextlib.contextmanager
def figures_log(
    folder: Path, distributed: Distributed, stage: str = "align"
) -> Iterator[Callable[[int, dict], None]]:
    """A function `log(step, figures)` that writes a step's figures, on rank 0 alone, to LOG in `folder` and
    for TensorBoard, where it is installed. The first step that it is given cuts off what an earlier run wrote
    of this step and later ones. It raises InputError where the log cannot be written."""
    SummaryWriter = None
    if distributed.rank == 0:
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter  # not everyone has it
    with contextlib.ExitStack() as opened:
        lines = writer = None

        def log(step: int, figures: dict) -> None:
            nonlocal lines, writer
            if distributed.rank:
                return
            try:
                if lines is None:
                    lines = opened.enter_context((folder / LOG).open("a+b"))
                    _truncate(lines, step)
                lines.write(json.dumps({"step": step, **figures}).encode() + b"\n")
                lines.flush()
            except OSError as error:
                raise InputError(
                    f"'{folder / LOG}' cannot be written ({error.strerror or error}): make room there, or "
                    "choose another folder."
                ) from error
            if SummaryWriter and writer is None:
                writer = opened.enter_context(SummaryWriter(str(folder / "tensorboard"), purge_step=step))
            for name, value in figures.items() if writer else ():
                writer.add_scalar(f"{stage}/{name}", value, step)

        yield log


def _truncate(lines: BinaryIO, step: int) -> None:
    """Cuts a log off before the lines of this step and later ones, and before an incomplete line."""
    lines.seek(0)
    kept = 0
    for line in lines:
        try:
            if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                break
        except ValueError:
            break
        except (KeyError, TypeError):
            # Somebody else's line, of no step.
            pass
        kept += len(line)
    lines.truncate(kept)
