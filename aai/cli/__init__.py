"""The `aai` command: hear a sound, make a token of it, draw pictures with it.

Each module declares its commands in `add`; what they need is imported when one runs.
"""

from __future__ import annotations

import argparse
import logging
import sys

from ..errors import InputError, is_out_of_memory
from . import adapt, align, data, demo, edit, evaluate, film, generate, hear, library, study, token
from .terminal import Commands, StdoutError, drop_stdout, either, escape_unencodable, write

REPOSITORY = "https://github.com/aai/aai-sound-tokens"
MODULES = (hear, token, generate, edit, film, library, align, adapt, data, evaluate, study, demo)

LOWERED = ("count", "chunk", "batch", "width", "height", "size", "length")
"""The options that less of takes less memory."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, or 2 with one sentence on stderr where the input is at
    fault; 128 and the number of the signal where it was stopped, or nobody reads on."""
    escape_unencodable()
    options = argparse.Namespace()
    try:
        try:
            options = _parser().parse_args(arguments)
            logging.basicConfig(level=logging.WARNING, format="%(message)s")
            return options.run(options) or 0
        finally:
            # argparse leaves its help in the buffer.
            write("", end="")
    except InputError as error:
        print(f"aai: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = __name__.partition(".")[0]
        if not (error.name or "").startswith(f"{package}."):
            raise
        # The registry's archive holds what the nodes need.
        print(
            f"aai: This command is not part of this installation (no {error.name}): clone {REPOSITORY} "
            "and install that.",
            file=sys.stderr,
        )
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"aai: Memory ran out: {_lower(options)}close other programs that hold it.", file=sys.stderr)
        return 2
    except StdoutError as error:
        drop_stdout()
        if error.is_closed:
            return 141
        reason = error.__cause__.strerror or error.__cause__
        print(
            f"aai: What it prints cannot be written ({reason}): make room for it, or send it elsewhere.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("aai: stopped.", file=sys.stderr)
        return 130


def _lower(options: argparse.Namespace) -> str:
    """Which of a command's options to lower for less memory, in words."""
    names = [f"--{name}" for name in LOWERED if hasattr(options, name)]
    return f"lower {either(names)}, or " if names else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aai",
        description="Paint with sound: a recording becomes one word of a picture model, a sound token.",
        epilog="Without other models, every command uses SoundWorld, the small world that comes with aai.",
    )
    commands = Commands(parser)
    for module in MODULES:
        module.add(commands)
    return parser
