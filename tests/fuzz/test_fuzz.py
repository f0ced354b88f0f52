"""A hundred generated inputs of a fixed seed (FUZZ=N: more); and the harness sees what it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
    assert len(kinds) == 14 + (find_comfy() is not None)
    assert all(sum(outcomes.values()) for outcomes in kinds.values())


WRONG = {
    "int('x')": "traceback",
    "__import__('os').abort()": "traceback",
    "__import__('time').sleep(999)": "hang",
    "bytearray(8 * 2**30)": "over memory",
    "len(b'x' * int(2.3 * 2**30))": "over memory",
    "open('../other.txt', 'w')": "outside",
    "open(__import__('os').environ['AAI_FUZZ_MARKER'], 'w')": "executed",
    "'whole again'": "result",
}
"""What the product must not do, and what it is counted as."""

PROGRAM = f"""
import pathlib, sys
from tests.fuzz import actions, worker
from tests.fuzz.example import Example

worker.SECONDS = worker.IDLE = 8.0
actions.wrong = lambda text: str(eval(text))
watched = worker.Watched(pathlib.Path(sys.argv[1]))
for text in {list(WRONG)!r}:
    print(watched.run(Example("test", "wrong", {{"text": text}})).kind)
watched.stop()
"""


def test_every_fault_is_noticed_and_costs_only_its_own_example(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "root")]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
    assert done.stdout.splitlines() == list(WRONG.values()), done.stderr
