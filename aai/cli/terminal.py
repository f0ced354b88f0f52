"""What every command shares: how it is declared, how it reports, and its bar."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from ..errors import encodable

SHORTEST_SIDE = 64
"""Pixels: a U-Net halves a picture's latent, itself an eighth, three times."""


class Commands:
    """The commands of a parser, as `aai` or `aai align` offers them."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser
        self.parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        self, name: str, run: Callable[[argparse.Namespace], int | None], text: str, example: str
    ) -> argparse.ArgumentParser:
        """A command that calls `run`, which may return an exit code; with `--json`, and an example below its
        help."""
        sub = self._parser(name, text, f"Example: {example}")
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        return sub

    def group(self, name: str, text: str) -> Commands:
        """A command that is a family of commands: `aai NAME COMMAND`."""
        return Commands(self._parser(name, text, f"aai {name} COMMAND --help tells more."))

    def _parser(self, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
        return self.parsers.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog
        )


def escape_unencodable() -> None:
    """Makes stdout and stderr escape what their encoding lacks: Windows' pipes are cp1252, and a file's name
    need not even be UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class StdoutError(Exception):
    """What a command prints cannot be written; its cause is the OSError that says why."""

    @property
    def is_closed(self) -> bool:
        """Whether nobody reads it any more, as where `aai ... | head` has read enough."""
        # Windows has no error of its own for it.
        unread = errno.EINVAL if os.name == "nt" else errno.EPIPE
        return isinstance(self.__cause__, BrokenPipeError) or self.__cause__.errno == unread


def write(text: str, end: str = "\n") -> None:
    """Prints on stdout at once. Raises StdoutError where that cannot be written."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        raise StdoutError from error


def drop_stdout() -> None:
    """Sends what stdout still holds, and all that follows, nowhere: Python would try it again at its end."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def progress_bar(description: str, total: int | None, quiet: bool):
    """A tqdm on a terminal's stderr, nothing elsewhere."""
    from tqdm import tqdm  # a command that says what it lacks has none

    return tqdm(desc=description, total=total, disable=True if quiet else None)


@contextlib.contextmanager
def progress(description: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar that is told the steps done: with progress("drawing", 30, quiet) as tick: tick(step)."""
    with progress_bar(description, total, quiet) as bar:
        yield lambda step: bar.update(step - bar.n)


def say(options: argparse.Namespace) -> Callable[[str], None]:
    """What prints a line while a command works: beside the report where that is JSON."""
    return (lambda text: print(text, file=sys.stderr, flush=True)) if options.json else write


def print_report(options: argparse.Namespace, report: object, text: str) -> None:
    """Prints a command's result: `report` where --json asks for it, else `text`."""
    write(json.dumps(_encodable(report), indent=1) if options.json else text)


def _encodable(report: object) -> object:
    """A report without lone surrogates, which JSON would take and others that read it would not."""
    if isinstance(report, dict):
        return {key: _encodable(value) for key, value in report.items()}
    if isinstance(report, (list, tuple)):
        return [_encodable(value) for value in report]
    return encodable(report) if isinstance(report, str) else report


def seed(text: str) -> int:
    """A seed of 63 bits, as torch takes it."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a seed: take a number from 0 to {2**63 - 1}")
    return value


def side(text: str) -> int:
    value = int(text)
    if value < SHORTEST_SIDE:
        raise argparse.ArgumentTypeError(
            f"{value} pixels are fewer than a model draws: take {SHORTEST_SIDE} or more"
        )
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def finite(text: str) -> float:
    """A number of which a result could be made: neither NaN nor infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{value} is no finite number: take another")
    return value


def limit(text: str) -> float:
    """A limit above 0, or 0 for none."""
    value = finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value:g} is below 0: take a number above 0, or 0 for no limit")
    return value


def either(names: Sequence[str]) -> str:
    """Names of which one is meant: "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def report_table(
    options: argparse.Namespace, report: dict, head: tuple, lines: list, notes: list[str]
) -> None:
    """Prints a table and its notes, or the report as JSON, which `--output` keeps."""
    from .. import files

    report["notes"] = notes
    if options.output:
        files.write(options.output, json.dumps(report, indent=1).encode(), "The result")
    widths = [max(len(str(line[i])) for line in (head, *lines)) for i in range(len(head))]
    shown = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(line, widths)) for line in (head, *lines)
    ]
    print_report(options, report, "\n".join(line.rstrip() for line in [*shown, *notes]))
