"""Files that are whole or not there, and whose they are."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import InputError, encodable

STALE = 3600.0
"""Seconds after which a file that nobody has gone on writing is left over."""

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.part", re.DOTALL)
_swept: dict[Path, float] = {}

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"
}
"""What Windows takes for a device, with any ending."""


def shown(path: str | os.PathLike) -> str:
    """A path as a log takes it: what is no Unicode in a file's name stands as a question mark."""
    return os.fspath(path).encode(errors="replace").decode()


def is_file(path: str | os.PathLike) -> bool:
    """Whether a file stands there. Unlike Path.is_file it raises for no path: one that is too long, a link
    that leads to itself, a folder above that may not be read."""
    return os.path.isfile(path)


def is_dir(path: str | os.PathLike) -> bool:
    """Whether a folder stands there; raises for no path, as `is_file`."""
    return os.path.isdir(path)


@contextlib.contextmanager
def placed(path: str | os.PathLike, what: str) -> Iterator[Path]:
    """Gives the name under which to write a file that is then put in its place in one move; one that stood
    there stays as it was until then, also where the power fails. A link stays a link: its target is written.
    The file's rights are a new file's, whoever has written it.

    Raises InputError, which calls the file `what`, where the disk does not take it, or where a folder or a
    device stands there.
    """
    from safetensors import SafetensorError

    path = Path(path)
    target = Path(os.path.realpath(path))
    # The name's begin: with what is added, the whole of a long one would be too long.
    unfinished = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}.part")
    try:
        if target.exists() and not target.is_file():
            raise InputError(f"{what} cannot be saved as '{path}', which is no file: choose another name.")
        _sweep(target.parent)
        # safetensors would make a file that nobody else may read.
        with unfinished.open("xb") as file:
            mode = os.stat(file.fileno()).st_mode
        yield unfinished
        # A move may reach the disk before what is moved: after a power cut an empty file would stand there.
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.chmod(mode)
        os.replace(unfinished, target)
    except SafetensorError as error:
        raise InputError(
            f"{what} cannot be saved as '{path}' ({error}): check the folder and the free space."
        ) from error
    except OSError as error:
        raise InputError(
            f"{what} cannot be saved as '{path}' ({error.strerror or error}): check the folder and the free "
            "space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Removes what `placed` left unfinished in a folder where its process was killed."""
    now = time.time()
    if now - _swept.get(folder, -STALE) < STALE:
        return
    _swept[folder] = now
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _UNFINISHED.fullmatch(entry.name):
                continue
            # Another process may be at it, or have put it in its place since.
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False) and now - entry.stat().st_mtime > STALE:
                    os.unlink(entry.path)


def stays_within(name: str) -> bool:
    """Whether a name, with / between folders, leads to nowhere but into its own folder, on every system."""
    parts = name.split("/")
    return all(
        part not in ("", ".", "..")
        and not any(c in '<>:"|?*\\' or ord(c) < 32 for c in part)
        and not is_reserved(part)
        and encodable(part) == part
        and len(part.encode()) <= 200
        for part in parts
    )


def write(path: str | os.PathLike, content: bytes, what: str) -> None:
    """Writes a file in one move. Raises InputError as `placed` does."""
    with placed(path, what) as unfinished:
        unfinished.write_bytes(content)


def check_pickle(path: str | os.PathLike) -> None:
    """Raises InputError where this torch may run what a pickle says, even when told to take tensors alone
    (CVE-2025-32434, mended in 2.6)."""
    import torch

    if torch.torch_version.TorchVersion(torch.__version__) < (2, 6):
        raise InputError(
            f"'{Path(path).name}' is a pickle, which torch {torch.__version__} may run as a program: take "
            "its safetensors version, or torch 2.6 or newer."
        )


def settle(path: str | os.PathLike, told: Mapping[str, object]) -> None:
    """Writes down what the results beside a file were made with, or compares it with what it says.

    Raises InputError where it says something else: results would be mixed.
    """
    path, told = Path(path), json.loads(json.dumps(dict(told)))
    if not path.is_file():
        write(path, json.dumps(told, indent=1).encode(), "The study's settings")
        return
    other = json.loads(path.read_text(encoding="utf-8"))
    differs = [key for key in {**other, **told} if other.get(key) != told.get(key)]
    if differs:
        raise InputError(
            f"'{path.parent}' holds a study with another {differs[0]} ({other.get(differs[0])}, not "
            f"{told.get(differs[0])}): take the same, or another folder."
        )


def is_reserved(name: str) -> bool:
    """Whether Windows refuses or changes this name of a file or folder: that of a device, with any ending,
    and one that ends in a dot or a space."""
    return name.partition(".")[0].rstrip(" ").upper() in DEVICES or name != name.rstrip(". ")


def metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a safetensors file; none of a file that is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}
