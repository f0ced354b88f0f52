"""The file of figures: whole, and of one choice of settings."""

import json
import sys

import pytest

from aai import files
from aai.soundworld.evaluate import __main__ as evaluate


@pytest.fixture
def measure(tmp_path, monkeypatch, capsys):
    """measure("--events", "rain") -> exit code, stderr; of a part that notes how many events it is given."""
    monkeypatch.setitem(evaluate.PARTS, "loudness", lambda run: run.note("events", len(run.arguments.events)))

    def run(*options: str) -> tuple[int, str]:
        arguments = ["evaluate", "loudness", "--output", str(tmp_path / "out" / "figures.json"), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        try:
            evaluate.main()
        except SystemExit as error:
            return error.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    run.file = tmp_path / "out" / "figures.json"
    return run


def test_figures_of_other_settings_are_kept_apart(measure):
    assert measure()[0] == 0
    settings = json.loads(measure.file.read_text(encoding="utf-8"))["settings"]
    assert settings.keys() == {"steps", "rho", "seeds"}
    others = (("--events", "rain"), ("--stories", "3"), ("--films", "0"), ("--fps", "2"))
    for options in others:
        code, err = measure(*options)
        assert code == 2 and "holds figures of other settings" in err and options[0].strip("-") in err
    assert measure()[0] == 0
    measure.file.unlink()
    assert measure("--events", "dog", "rain")[0] == 0
    # In whatever order.
    assert measure("--events", "rain", "dog")[0] == 0
    assert json.loads(measure.file.read_text(encoding="utf-8"))["events"] == 2


def test_a_damaged_file_gets_a_sentence_and_stays(measure):
    measure()
    for content in (b'{"settings": {"ste', b"[]"):
        measure.file.write_bytes(content)
        code, err = measure()
        assert code == 2 and "another --output" in err and measure.file.read_bytes() == content


def test_a_file_of_figures_is_whole_when_the_writing_stops(measure, monkeypatch):
    measure()
    before = measure.file.read_bytes()

    def stop(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        measure()
    assert measure.file.read_bytes() == before and list(measure.file.parent.iterdir()) == [measure.file]
