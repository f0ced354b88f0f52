"""Errors that users read, and what makes the texts that they quote legible."""

import logging
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SCREEN = 600
"""The most characters of an error's sentence."""

_QUOTED = re.compile(r"(')([^']{81,})(')|(')([^']{81,})(')|(\")([^\"]{81,})(\")")


class InputError(ValueError):
    """One sentence for a person: what is wrong, with which thing, and what to do.

    What it quotes may be anything: see `sentence`.
    """

    def __init__(self, text: object = ""):
        super().__init__(sentence(str(text)))


def sentence(text: str) -> str:
    """A text that quotes user input, made fit to log, send and show: `legible`, and at most SCREEN
    characters. Long quoted parts lose their middle first, then the text itself does, so that its end, what to
    do, stays."""
    # What is quoted may be a file's whole content.
    text = legible(_without_middle(text, 20 * SCREEN))
    if len(text) > SCREEN:
        text = _QUOTED.sub(lambda m: _without_middle(m[0], 80), text)
    return _without_middle(text, SCREEN)


def encodable(text: str) -> str:
    """The text as valid UTF-8: a lone surrogate, as a file's name in another encoding has it, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def legible(text: str) -> str:
    """`encodable`, and on one line: breaks are spaces, other characters that print nothing are escaped."""
    return "".join(map(_legible, encodable(text)))


def _legible(character: str) -> str:
    if character in "\n\r\t\v\f\x85\u2028\u2029":
        return " "
    # Some turn the reading direction; a joiner belongs to its emoji or script.
    invisible = unicodedata.category(character) in ("Cc", "Cf") and character not in "\u200c\u200d"
    return ascii(character)[1:-1] if invisible else character


def _without_middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


class _Encodable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = encodable(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            text = "".join(traceback.format_exception(*record.exc_info))
            record.exc_text = encodable(text.rstrip("\n"))
        return True


def logger(name: str) -> logging.Logger:
    """logging.getLogger, for texts that name files and prompts: all its records can be encoded."""
    log = logging.getLogger(name)
    # A logger's filter sees its own records only, not those of the loggers below it.
    if not any(isinstance(known, _Encodable) for known in log.filters):
        log.addFilter(_Encodable())
    return log


log = logger(__name__)


@contextmanager
def logged(what: str) -> Iterator[None]:
    """Logs an exception inside it as `what` and suppresses it: for saving work while another exception, the
    one that matters, is being raised."""
    try:
        yield
    except Exception:
        log.exception(what)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind where it says nothing: a sentence's reason."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the computer's or a device's."""
    # Not every device has an exception of its own for it.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))
    )


@contextmanager
def refused(sentence: Callable[[str], str]) -> Iterator[None]:
    """Inside, whatever a library raises is an InputError of sentence(its first line), but where memory runs
    out: what damaged files make readers raise depends on the damage."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(sentence(first_line(error))) from error
