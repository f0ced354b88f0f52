"""Errors for people."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class InputError(ValueError):
    """One sentence for a person: what is wrong, with which thing, and what to do."""


@contextmanager
def logged(what: str) -> Iterator[None]:
    """Logs an exception within it as `what` and goes on: for keeping work while another exception, which the
    caller must hear of, is on its way up."""
    try:
        yield
    except Exception:
        log.exception(what)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the computer's or a device's."""
    # Not every device has an exception of its own for it.
    return isinstance(error, (MemoryError, RuntimeError)) and (
        isinstance(error, MemoryError)
        or any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))
    )
