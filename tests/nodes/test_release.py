"""What the registry's zip holds; test_server.py runs it in an empty ComfyUI."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHOLE = ["aai", "example_workflows", "locales", "nodes", "subgraphs", "web"]
ABSENT = [
    *("tests/", "bench/", "docs/", ".github/", ".ci/", "out/", "Makefile", "constraints.txt"),
    *("aai/demo/", "aai/study/", "aai/soundworld/build/", "aai/soundworld/evaluate/"),
    *("aai/soundworld/align_study.py", "aai/soundworld/weights/oracle", "aai/soundworld/esc10.py"),
]
FLAGGED = ("subprocess", "socket", "urllib", "http", "requests", "pip")
"""Modules whose import the registry's scan reports: processes, and the network."""
IMPORTS = """
import asyncio, importlib, importlib.util, sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
spec = importlib.util.spec_from_file_location("aai_pack", sys.argv[2] + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules["aai_pack"] = module
spec.loader.exec_module(module)
asyncio.run(module.comfy_entrypoint())
print("at start:", *(name.removeprefix("aai_pack.") for name in sys.modules if name.startswith("aai_pack.")))
for name in sys.argv[3:]:
    importlib.import_module("aai_pack." + name)
assert "aai" not in sys.modules
print("imported", len(sys.argv) - 3)
"""


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        return {name for name in file.namelist() if not name.endswith("/")}


def modules(path: Path) -> dict[tuple[str, ...], ast.Module]:
    """The zip's modules by their dotted names' parts, () for the pack itself."""
    with zipfile.ZipFile(path) as file:
        sources = {name: file.read(name) for name in file.namelist() if name.endswith(".py")}
    parts = {name: Path(name).with_suffix("").parts for name in sources}
    return {
        parts[name][:-1] if parts[name][-1] == "__init__" else parts[name]: ast.parse(source, name)
        for name, source in sources.items()
    }


def imports(name: tuple[str, ...], tree: ast.Module, is_package: bool) -> Iterator[tuple[str, ...]]:
    """What a module of the pack imports of it, wherever the import stands."""
    package = name if is_package else name[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = package[: len(package) - node.level + 1]
            source += tuple(node.module.split(".")) if node.module else ()
            yield source
            yield from (source + (alias.name,) for alias in node.names)


def faults(tree: ast.AST) -> list[str]:
    """What the registry's scan would report of a module."""
    reported = []
    for node in ast.walk(tree):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = [node.module]
        reported += [f"import of {name}" for name in imported if name.split(".")[0] in FLAGGED]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("eval", "exec", "builtins.eval", "builtins.exec", "os.system", "os.popen"):
                reported.append(f"call of {called}")
            if called.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
                reported.append(f"call of {called}")
            if called in ("__import__", "import_module", "importlib.import_module") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and str(first.value).split(".")[0] in FLAGGED:
                    reported.append(f"import of {first.value}")
    return reported


def needed_by_nodes(release: Path) -> set[tuple[str, ...]]:
    """The modules of the repository that the nodes import, directly or not."""

    def file_of(name: tuple[str, ...]) -> Path | None:
        files = ROOT.joinpath(*name, "__init__.py"), ROOT.joinpath(*name).with_suffix(".py")
        return next((file for file in files if file.is_file()), None)

    waiting = [name for name in modules(release) if name[:1] in ((), ("nodes",))]
    needed = set(waiting)
    while waiting:
        name = waiting.pop()
        file = file_of(name)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for target in imports(name, tree, file.name == "__init__.py"):
            # A package runs before what is in it.
            for length in range(1, len(target) + 1):
                part = target[:length]
                if part not in needed and file_of(part):
                    needed.add(part)
                    waiting.append(part)
    return needed


def test_the_zip_holds_all_that_runs_and_nothing_else(release):
    packed = names(release)
    for folder in WHOLE:
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        wanted = {p.relative_to(ROOT).as_posix() for p in files}
        missing = {name for name in wanted - packed if not name.startswith(tuple(ABSENT))}
        assert not missing, missing
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md"} <= packed
    assert [name for name in packed if name.startswith(tuple(ABSENT))] == []
    assert release.stat().st_size < 60e6


def test_every_module_that_nodes_import_is_in_the_zip(release):
    needed = needed_by_nodes(release)
    assert ("aai", "adapt", "train") in needed
    assert sorted(needed - set(modules(release))) == []


def test_the_zips_nodes_import_beside_comfyui_alone(release, comfy_path, tmp_path):
    with zipfile.ZipFile(release) as file:
        file.extractall(tmp_path / "pack")
    wanted = sorted(".".join(name) for name in needed_by_nodes(release) if name)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(comfy_path), str(tmp_path / "pack"), *wanted],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert f"imported {len(wanted)}" in done.stdout
    (at_start,) = re.findall(r"^at start: (.*)$", done.stdout, re.MULTILINE)
    # What a node needs when it runs is imported then: a start is to take 0.3 s (test_server.py).
    early = [
        name for name in at_start.split() if re.match(r"aai\.(picture|align|library|soundworld)\.", name)
    ]
    assert "nodes.inject" in at_start and early == []


def test_the_zip_starts_no_process_opens_no_connection_and_evaluates_no_text(release):
    reported = {".".join(name): faults(tree) for name, tree in modules(release).items()}
    assert {name: found for name, found in reported.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "def f():\n    from urllib.request import urlopen",
        "import http.client",
        "eval('1')",
        "exec(text)",
        "import os\nos.system('pip install x')",
        "importlib.import_module('socket')",
    ],
)
def test_what_the_registry_flags_is_seen(source):
    assert faults(ast.parse(source))


def test_what_only_looks_alike_is_not():
    assert faults(ast.parse("model.eval()\nsay('pip install x')\nfrom .http import a\nmodel.exec(1)")) == []


def test_nothing_is_installed_with_the_pack():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []


def test_a_command_whose_part_the_zip_lacks_says_so(release, tmp_path):
    with zipfile.ZipFile(release) as file:
        file.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # -S: a development installation would lend the part that is missing.
    command = [sys.executable, "-S", "-m", "aai", "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("aai: This command is not part of this installation (no aai.demo")
    assert "https://github.com/" in sentence


@pytest.fixture(scope="session")
def comfy_cli() -> str:
    found = shutil.which(
        "comfy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if found is None:
        pytest.skip("comfy-cli is not installed: pip install comfy-cli")
    return found


@pytest.fixture
def clone(tmp_path) -> Path:
    """The repository's files as they stand, as a repository of their own: what publishing starts from."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: what would be published is not known")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout
    copy = tmp_path / "clone"
    for name in filter(None, listed.split("\0")):
        # Listed still, and gone: deleted since the last commit.
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=copy, check=True, capture_output=True)
    return copy


@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks for a key at the console alone")
def test_publishing_gets_as_far_as_the_key(clone, comfy_cli):
    """comfy-cli validates the whole repository, finds nothing to warn of, and asks for the key."""
    done = subprocess.run(
        [comfy_cli, "--skip-prompt", "--no-enable-telemetry", "node", "publish"],
        cwd=clone,
        input="\n",
        capture_output=True,
        encoding="utf-8",
        # In a terminal it would wait for a key for ever.
        start_new_session=True,
        timeout=120,
    )
    told = done.stdout + done.stderr
    assert "All validation checks passed" in told and "API Key" in told, told
    assert "Security warnings" not in told and "Error" not in told, told
    assert not re.findall(r"^Warning: (?!Password)", told, re.MULTILINE), told


def test_the_registry_is_told_the_systems_and_where_to_read_and_report(comfy_cli):
    from comfy_cli.registry.config_parser import extract_node_configuration

    config = extract_node_configuration(str(ROOT / "pyproject.toml"))
    assert config.project.supported_os == ["OS Independent"]
    urls = config.project.urls
    assert urls.issues == f"{urls.repository}/issues" and urls.documentation.startswith(urls.repository)
    assert config.project.supported_comfyui_version == ">=0.3.64"


def test_comfy_cli_packs_the_same(release, tmp_path, comfy_cli):
    copy = tmp_path / "pack"
    with zipfile.ZipFile(release) as file:
        file.extractall(copy)
    # Files of what is left out, so that packing has something to leave.
    for name in ("docs/draw.py", "web/docs/mine.md", "aai/demo/run.py", "tests/conftest.py", "Makefile"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("", encoding="utf-8")
    shutil.copyfile(ROOT / ".comfyignore", copy / ".comfyignore")
    for command in (["git", "init", "--quiet"], ["git", "add", "--all", "--force"]):
        subprocess.run(command, cwd=copy, check=True, capture_output=True)
    for verb in ("validate", "pack"):
        command = [comfy_cli, "--skip-prompt", "--no-enable-telemetry", "node", verb]
        done = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr
    assert names(copy / "node.zip") == names(release) | {"web/docs/mine.md"}
