"""What every command shares: how it is declared, how it reports, and its bar."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable

from ..errors import encodable


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


def print_anything() -> None:
    """Lets stdout and stderr show a letter that their encoding lacks as an escape: Windows' pipes are cp1252,
    and the name of a file may be anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class progress:
    """A bar on a terminal's stderr, nothing elsewhere: with progress("drawing", 30, quiet) as tick:
    tick(step)."""

    def __init__(self, what: str, total: int, quiet: bool):
        self.what, self.total, self.shown = what, total, sys.stderr.isatty() and not quiet

    def __enter__(self) -> Callable[[int], None]:
        return self.tick

    def tick(self, step: int) -> None:
        if self.shown:
            done = round(30 * step / self.total)
            print(
                f"\r{self.what} [{'#' * done}{' ' * (30 - done)}] {step}/{self.total}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *_) -> None:
        if self.shown:
            print(file=sys.stderr)


def say(options: argparse.Namespace) -> Callable[[str], None]:
    return lambda text: print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def tell(options: argparse.Namespace, report: dict, text: str) -> None:
    print(json.dumps(_encodable(report), indent=1) if options.json else text)


def _encodable(report: object) -> object:
    """A report without lone surrogates, which JSON would take and others that read it would not."""
    if isinstance(report, dict):
        return {key: _encodable(value) for key, value in report.items()}
    if isinstance(report, (list, tuple)):
        return [_encodable(value) for value in report]
    return encodable(report) if isinstance(report, str) else report


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value
