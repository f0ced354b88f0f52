"""Reports and bars."""

from __future__ import annotations

import io
import json
import sys
from argparse import Namespace

import pytest

from aai.cli.terminal import escape_unencodable, print_report, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch, quiet):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("drawing", 3, quiet) as tick:
            for step in (1, 2, 3):
                tick(step)
        shown = stream.getvalue()
        assert ("drawing: 100%" in shown and "3/3" in shown) == (stream.isatty() and not quiet)
        assert bool(shown) == (stream.isatty() and not quiet)


def test_a_report_is_json_where_it_is_asked_for(capsys):
    report = {"file": "caf\udce9.wav", "rows": [("a", 1)]}
    print_report(Namespace(json=True), report, "one line")
    assert json.loads(capsys.readouterr().out) == {"file": "caf\\udce9.wav", "rows": [["a", 1]]}
    print_report(Namespace(json=False), report, "one line")
    assert capsys.readouterr().out == "one line\n"


def test_letters_that_a_stream_lacks_are_escaped(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="cp1252"))
    escape_unencodable()
    print("\u96f7", flush=True)
    assert content.getvalue().strip() == b"\\u96f7"
