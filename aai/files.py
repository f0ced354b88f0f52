"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from .errors import InputError


def write(path: str | os.PathLike, content: bytes, what: str) -> None:
    """Writes a file in one move; one that stood there stays as it was until then.

    Raises InputError, which calls the file `what`, where the disk does not take it.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(
            f"{what} cannot be saved as '{path}' ({error.strerror or error}): check the folder and the free "
            "space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
