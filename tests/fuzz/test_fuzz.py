"""A hundred generated inputs of a fixed seed (FUZZ=N: more); and the harness sees what it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aai.demo.comfy_server import find_comfy

ROOT = Path(__file__).parents[2]


def fuzz(out: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, Path]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments, "--out", str(out)]
    # The encoding warnings of other packages' files are no fault of an example.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "PYTHONPATH")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    return done, out / "fuzz.json"


def test_generated_inputs_end_in_a_result_or_in_one_sentence(tmp_path):
    done, report = fuzz(tmp_path, os.environ.get("FUZZ", "100"), "--seed", "0")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    kinds = json.loads(report.read_text(encoding="utf-8"))["kinds"]
    assert len(kinds) == 13 + (find_comfy() is not None)
    assert all(sum(outcomes.values()) for outcomes in kinds.values())


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("traceback", "int('x')"),
        ("traceback", "__import__('os').abort()"),
        ("hang", "__import__('time').sleep(999)"),
        ("over memory", "bytearray(8 * 2**30)"),
        ("over memory", "bytes(b'x' * (5 * 2**29))[0]"),
        ("outside", "open('../other.txt', 'w')"),
        ("executed", "open(__import__('os').environ['AAI_FUZZ_MARKER'], 'w')"),
        ("result", "''"),
    ],
)
def test_every_fault_is_noticed(tmp_path, name, call):
    """What the product must not do, done: in a process that is watched as the examples' are."""
    program = (
        "import pathlib\n"
        "from tests.fuzz import actions, worker\n"
        "from tests.fuzz.example import Example\n"
        "worker.SECONDS = worker.IDLE = 3.0\n"
        f"actions.wrong = lambda: str(eval({call!r}))\n"
        f"watched = worker.Watched(pathlib.Path({str(tmp_path / 'root')!r}))\n"
        "for action in ('wrong', 'wrong'):\n"
        "    print(watched.run(Example('kind', action)).kind)\n"
        "watched.stop()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    # A process that has ended, or hangs, is replaced.
    assert done.stdout.splitlines() == [name, name], done.stderr
