"""Sentences for people can be written anywhere, whatever they quote."""

from __future__ import annotations

import io
import logging

import pytest

from aai.errors import SCREEN, InputError, encodable, logged, logger


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("There is no 'caf\udce9.wav'.", "There is no 'caf\\udce9.wav'."),
        ("'half \ud83d' names nothing.", "'half \\ud83d' names nothing."),
        ("a\nb\r\n\tc\u2028d", "a b   c d"),
        ("bell\x07 and colour \x1b[31m", "bell\\x07 and colour \\x1b[31m"),
        ("turned \u202efdp.exe", "turned \\u202efdp.exe"),
        ("雷 Gewitter ⚡ 👩\u200d🚀 'ok'", "雷 Gewitter ⚡ 👩\u200d🚀 'ok'"),
    ],
)
def test_a_sentence_is_one_line_of_valid_text(said, read):
    assert str(InputError(said)) == read
    assert InputError(said).args[0].encode("utf-8").decode("utf-8") == read


@pytest.mark.parametrize("marks", ["''", "''", '""'])
def test_a_long_quotation_loses_its_middle_and_the_advice_stays(marks):
    left, right = marks
    error = str(InputError(f"There is no {left}begin{'x' * 5000}end{right}: choose another folder."))
    assert len(error) <= SCREEN
    assert error.startswith(f"There is no {left}begin") and error.endswith(
        f"end{right}: choose another folder."
    )
    assert "x…x" in error


@pytest.mark.parametrize("size", [SCREEN - 1, SCREEN, SCREEN + 1, 10**7])
def test_no_sentence_is_longer_than_a_screen(size):
    said = "a" + "b, " * (size // 3) + ": choose one of them."
    error = str(InputError(said))
    assert len(error) <= SCREEN and error.endswith(": choose one of them.")
    assert (error == said) == (len(said) <= SCREEN)


def test_what_is_logged_can_be_encoded():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    handler = logging.StreamHandler(stream)
    log = logger("aai.test_errors")
    for told in (log, logging.getLogger("aai.errors")):
        told.addHandler(handler)
    try:
        log.warning("'%s' is left out: %s.", "caf\udce9.png", 3)
        with logged("Nothing of \ud83d is kept."):
            raise ValueError("half \ud83d")
    finally:
        for told in (log, logging.getLogger("aai.errors")):
            told.removeHandler(handler)
    lines = stream.buffer.getvalue().decode("utf-8").splitlines()
    assert lines[:2] == ["'caf\\udce9.png' is left out: 3.", "Nothing of \\ud83d is kept."]
    assert lines[2].startswith("Traceback") and lines[-1] == "ValueError: half \\ud83d"


def test_encodable_leaves_good_text_alone():
    assert encodable("a\nb ⚡") == "a\nb ⚡"
