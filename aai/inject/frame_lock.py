"""A film's folder of pictures is one process's at a time: a file in it says whose."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

LOCK = "aai-film.lock"
"""The file with the id of the process that draws into a folder."""
WRITTEN = 10.0
"""Seconds within which a process has written its id into the file that it has made."""
QUERY, ACCESS_DENIED, STILL_ACTIVE = 0x1000, 5, 259
"""Windows' numbers for the right to ask after a process, that it is another user's, and that it goes on."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Inside, the folder is this process's. Raises InputError as `check_free`, and where the file cannot be
    written."""
    lock = folder / LOCK
    check_free(folder)
    try:
        # A process that was killed has left it.
        lock.unlink(missing_ok=True)
        with lock.open("x", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        check_free(folder)
        raise InputError(
            f"'{lock}' cannot be written ({error.strerror}): check the folder and the free space."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)


def check_free(folder: Path) -> None:
    """Raises InputError where another process, which goes on, draws into the folder."""
    lock = folder / LOCK
    try:
        text, age = lock.read_text(encoding="utf-8"), time.time() - lock.stat().st_mtime
    except OSError:
        return
    if not text.isdecimal():
        is_held = age < WRITTEN
    else:
        # In a container, the one before had the same id.
        is_held = int(text) != os.getpid() and is_running(int(text))
    if is_held:
        raise InputError(
            f"Another process ({text or 'just begun'}) draws the same film, in '{folder}': wait until it "
            f"ends, or name another output; where that process is no film's, remove '{lock}'."
        )


def is_running(process: int) -> bool:
    """Whether there is a process of this id, whoever started it."""
    if os.name == "nt":
        return _is_running_on_windows(process)
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _is_running_on_windows(process: int) -> bool:
    # There os.kill would end it.
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.GetExitCodeProcess.argtypes = (wintypes.HANDLE, wintypes.LPDWORD)
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    handle = kernel.OpenProcess(QUERY, False, wintypes.DWORD(process))
    if not handle:
        return ctypes.get_last_error() == ACCESS_DENIED
    code = wintypes.DWORD()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == STILL_ACTIVE
