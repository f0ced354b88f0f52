"""The workflows of .github: what they may do, what they run, and where."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {p.name: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted(FOLDER.glob("*.yml"))}
JOBS = {f"{name}:{job}": body for name, w in WORKFLOWS.items() for job, body in w["jobs"].items()}
READS = {"contents": "read"}


def steps(job: dict) -> list[dict]:
    return job.get("steps", [])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit_with_the_version_beside(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    used = re.findall(r"uses: (.+)$", text, re.MULTILINE)
    assert used
    loose = [u for u in used if not re.fullmatch(r"\./\S+|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d\S*", u)]
    assert loose == []


@pytest.mark.parametrize("name", JOBS)
def test_a_job_may_read_the_repository_and_nothing_else(name):
    assert JOBS[name]["permissions"] == READS
    assert WORKFLOWS[name.split(":")[0]]["permissions"] == {}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_keeps_no_credentials_and_ends(name):
    job = JOBS[name]
    kept = [s["with"] for s in steps(job) if s.get("uses", "").startswith("actions/checkout@")]
    assert all(given["persist-credentials"] is False for given in kept)
    assert "timeout-minutes" in job or "uses" in job


@pytest.mark.parametrize("name", JOBS)
def test_no_command_holds_an_expression(name):
    """What GitHub puts into a command is read by the shell; what is in a variable is not."""
    assert [s["run"] for s in steps(JOBS[name]) if "${{" in s.get("run", "")] == []


@pytest.mark.parametrize("name", JOBS)
def test_the_tests_that_a_job_names_exist(name):
    named = {path for s in steps(JOBS[name]) for path in re.findall(r"\btests/[\w/.]+", s.get("run", ""))}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_system_python_and_comfyui_has_a_lane():
    lanes = set()
    for job in ("tests", "walk"):
        body = JOBS[f"tests.yml:{job}"]
        matrix = body["strategy"]["matrix"]
        systems = matrix.get("system", [body["runs-on"]])
        lanes |= set(product(systems, matrix["python"], matrix["comfyui"]))
    systems = ("ubuntu-latest", "windows-latest", "macos-latest")
    assert lanes == set(product(systems, ("3.12", "3.13"), ("master", "v0.3.64")))


def test_nothing_is_published_before_every_lane_has_passed():
    jobs = WORKFLOWS["publish.yml"]["jobs"]
    assert jobs["tests"]["uses"] == "./.github/workflows/tests.yml"
    assert "tests" in jobs["publish"]["needs"]
    keyed = [name for name, job in JOBS.items() if "secrets." in str(job)]
    assert keyed == ["publish.yml:publish"]
