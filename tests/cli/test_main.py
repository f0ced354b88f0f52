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


def test_where_memory_runs_out_a_sentence_says_what_to_lower(aai, rain_token):
    # 16 PB of latents, more than a process can address.
    size = ("--width", "99999999", "--height", "99999999")
    code, out, err = aai("generate", "--token", str(rain_token), *size, "--steps", "1", "-o", "large.png")
    assert code == 2 and not out and err.count("\n") == 1
    options = "--count, --chunk, --batch, --width, --height or --length"
    assert f"Memory ran out: lower {options}, or close other programs" in err
