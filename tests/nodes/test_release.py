"""What the registry's zip holds; test_server.py runs it in an empty ComfyUI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHOLE = ["aai", "example_workflows", "locales", "nodes", "web"]
ABSENT = ["tests/", "bench/", ".github/", ".ci/", "out/", "Makefile", "constraints.txt"]


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        return {name for name in file.namelist() if not name.endswith("/")}


def test_the_zip_holds_all_that_runs_and_nothing_else(release):
    packed = names(release)
    for folder in WHOLE:
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        missing = {p.relative_to(ROOT).as_posix() for p in files} - packed
        assert not missing, missing
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md"} <= packed
    assert [name for name in packed if name.startswith(tuple(ABSENT))] == []
    assert release.stat().st_size < 60e6


def test_nothing_is_installed_with_the_pack():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []


def test_comfy_cli_packs_the_same(release, tmp_path):
    comfy = shutil.which(
        "comfy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if comfy is None:
        pytest.skip("comfy-cli is not installed: pip install comfy-cli")
    copy = tmp_path / "pack"
    with zipfile.ZipFile(release) as file:
        file.extractall(copy)
    shutil.copyfile(ROOT / ".comfyignore", copy / ".comfyignore")
    for command in (["git", "init", "--quiet"], ["git", "add", "--all", "--force"]):
        subprocess.run(command, cwd=copy, check=True, capture_output=True)
    for verb in ("validate", "pack"):
        command = [comfy, "--skip-prompt", "--no-enable-telemetry", "node", verb]
        done = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr
    assert names(copy / "node.zip") == names(release)
