"""The command as a whole: help, wrong options, and `python -m aai`."""

import subprocess
import sys

import pytest

from aai import cli


def test_help_and_wrong_options(capsys):
    for arguments in (["--help"], *([c, "--help"] for c in ("hear", "token", "generate", "demo"))):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0 and "usage: aai" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["hear", "--words", "0", "x.wav"])
    assert stop.value.code == 2


def test_the_module_runs_as_a_command(folder):
    arguments = [sys.executable, "-m", "aai", "hear", str(folder / "nowhere.wav")]
    done = subprocess.run(arguments, capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere.wav" in done.stderr
