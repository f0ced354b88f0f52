"""Outputs are checked before the work: that they can be written, and that only what aai wrote is replaced."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError


def check_output(
    output: Path, what: str, endings: Sequence[str], is_ours: Callable[[Path], bool], force: bool
) -> None:
    """Raises InputError, before there is anything to lose, where `what` cannot be kept under this name: its
    ending is its format, and only a file that `is_ours` is replaced, unless `force`."""
    example = f"rain{endings[0]}"
    try:
        if output.is_dir():
            raise InputError(f"'{output}' is a folder: name a file in it, as {output / example}.")
        if not output.parent.is_dir():
            raise InputError(f"There is no folder '{output.parent}' for '{output.name}': make it first.")
        exists = output.exists()
        if exists and not output.is_file():
            raise InputError(f"'{output}' is a device or a pipe: name a file, as {example}.")
    except OSError as error:
        raise InputError(f"'{output}' can name no file ({error.strerror}): choose another name.") from error
    if output.suffix.lower() not in endings:
        raise InputError(f"'{output}' is no name of {what}: let it end in {' or '.join(endings)}.")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"The folder '{output.parent}' cannot be written to: choose another for {what}.")
    if exists and not force and not is_ours(output):
        raise InputError(
            f"'{output}' was not written by aai as {what}: choose another name, or replace it with --force."
        )


def check_folder(output: Path) -> None:
    """Raises InputError, before the work, where a folder cannot be made or written to, or is a file."""
    try:
        existing = next(path for path in (output, *output.parents) if path.exists())
        is_folder = existing.is_dir()
    except OSError as error:
        raise InputError(f"'{output}' can name no folder ({error.strerror}): choose another.") from error
    if not is_folder:
        raise InputError(f"'{existing}' is a file: name a folder.")
    if not os.access(existing, os.W_OK):
        raise InputError(f"The folder '{existing}' cannot be written to: choose another.")


def check_token_file(output: Path, force: bool) -> None:
    from ..token import is_ours

    check_output(output, "a sound token", (".safetensors",), is_ours, force)


def check_picture_file(output: Path, force: bool) -> None:
    from .. import image

    check_output(output, "a picture", tuple(image.WRITTEN), image.is_ours, force)


def check_encoder_file(output: Path, force: bool) -> None:
    from ..encoders.loaders import is_ours

    check_output(output, "a sound encoder", (".safetensors",), is_ours, force)


def check_adapter_file(output: Path, force: bool) -> None:
    from ..adapt.universal_file import is_ours

    check_output(output, "a sound adapter", (".safetensors",), is_ours, force)


def save_trained(save: Callable[[Path], None], output: Path, steps: int) -> None:
    """Saves what `steps` steps have trained. Where the output does not take it now, as on a full disk, or
    where another program has it open on Windows, it is saved beside it or in the temporary folder, under a
    name that nothing has; the InputError then says where."""
    try:
        save(output)
    except InputError as error:
        place = _elsewhere(save, output, steps)
        if place is None:
            raise
        raise InputError(f"{str(error).rstrip('.')}; until then, what was trained is '{place}'.") from error


def _elsewhere(save: Callable[[Path], None], output: Path, steps: int) -> Path | None:
    """Where it could be saved, if anywhere."""
    for folder in (output.parent, Path(tempfile.gettempdir())):
        place = free_name(folder / output.name, steps)
        with contextlib.suppress(InputError):
            save(place)
            return place
    return None


def free_name(output: Path, steps: int) -> Path:
    """A name that nothing has, beside the output, for what `steps` steps have trained of it."""
    stem = f"{output.stem}-step{steps}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    places = (output.with_stem(name) for name in names)
    return next(path for path in places if not os.path.lexists(path))


def make_folder(folder: Path, what: str, option: str) -> None:
    """Makes a folder that keeps `what`. Raises InputError, which names the option for another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{what} cannot be kept in '{folder}' ({error.strerror or error}): choose another {option}."
        ) from error


def check_json_file(output: Path, what: str, keys: set[str], force: bool) -> None:
    """`check_output` for JSON; a file with all of `keys` is ours."""

    def is_ours(path: Path) -> bool:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and keys <= content.keys()

    check_output(output, what, (".json",), is_ours, force)
