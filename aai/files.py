"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError


def write(path: str | os.PathLike, content: bytes, what: str) -> None:
    """Writes a file in one move; one that stood there stays as it was until then.

    Raises InputError, which calls the file `what`, where the disk does not take it.
    """
    with unfinished(path, what) as part:
        part.write_bytes(content)


@contextlib.contextmanager
def unfinished(path: str | os.PathLike, what: str) -> Iterator[Path]:
    """Gives a name to write a file under that is too large to hold; at the end it takes its place in one
    move.

    Raises InputError, which calls the file `what`, where the disk does not take it.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"{what} cannot be saved as '{path}' ({error.strerror or error}): check the folder and the free "
            "space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
