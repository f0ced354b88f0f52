"""The command as a whole: help, wrong options, and `python -m aai`."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


def told_to(stdout, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m aai`, its stdout an open file or a descriptor, and buffered as it mostly is."""
    command = [sys.executable, "-W", "ignore", "-m", "aai", *arguments]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, encoding="utf-8", env=env)


@pytest.mark.skipif(os.name == "nt", reason="a pipe that nobody reads is told otherwise")
@pytest.mark.parametrize("asked", ["hear", "help"])
def test_what_nobody_reads_ends_a_command_quietly(folder, asked):
    arguments = ("--help",) if asked == "help" else ("hear", str(folder / "rain.wav"))
    reader, writer = os.pipe()
    os.close(reader)
    done = told_to(writer, *arguments)
    os.close(writer)
    assert done.returncode == 141 and not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("asked", ["hear", "--json", "help"])
def test_a_full_disk_behind_stdout_gets_one_sentence(folder, asked):
    arguments = ("--help",) if asked == "help" else ("hear", str(folder / "rain.wav"))
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = told_to(full, *arguments, *([asked] if asked == "--json" else ()))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "What it prints cannot be written (No space left on device)" in done.stderr


def test_a_stop_while_the_commands_are_declared_is_told_as_any(aai, monkeypatch):
    def stopped(commands):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "MODULES", (SimpleNamespace(add=stopped),))
    assert aai("hear", "rain.wav") == (130, "", "aai: stopped.\n")


def test_where_memory_runs_out_a_sentence_says_what_to_lower(aai, rain_token):
    # 16 PB of latents, more than a process can address.
    size = ("--width", "99999999", "--height", "99999999")
    code, out, err = aai("generate", "--token", str(rain_token), *size, "--steps", "1", "-o", "large.png")
    assert code == 2 and not out and err.count("\n") == 1
    options = "--count, --chunk, --batch, --width, --height or --length"
    assert f"Memory ran out: lower {options}, or close other programs" in err
