"""Who may know whom: every file knows only what stands before it, no two files know each other, and the core
never knows ComfyUI."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("aai.errors",),
    ("aai.files",),
    ("aai.decode",),
    (
        "aai.audio",
        "aai.distributed",
        "aai.fbank",
        "aai.image",
        "aai.metrics",
        "aai.optim",
        "aai.precision",
        "aai.ridge",
    ),
    ("aai.charts", "aai.meter", "aai.video"),
    ("aai.embedding",),
    ("aai.token",),
    ("aai.prompt",),
    ("aai.encoders", "aai.picture"),
    ("aai.data", "aai.library"),
    ("aai.align", "aai.adapt", "aai.inject"),
    ("aai.soundworld",),
    ("nodes.comfy",),
    ("nodes",),
    ("aai.study", "aai.demo"),
    ("aai.cli",),
    ("aai.__main__", "bench"),
)
"""The ground first. What stands in one line may know its own kind and what stands before the line."""
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
COMFY = {
    *("comfy", "comfy_api", "comfy_extras", "comfy_execution"),
    *("folder_paths", "nodes", "server", "execution"),
}
PRODUCT = sorted(path for folder in ("aai", "nodes", "bench") for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in PRODUCT}


@cache
def imports(path: Path) -> frozenset[str]:
    """The absolute names that a file imports, wherever in it: `a.b` for `from a import b`. Those inside
    functions and under TYPE_CHECKING count too."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def ours(path: Path) -> set[str]:
    """The modules of this project that a file imports."""
    found = set()
    own = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        module = name if name in MODULES else name.rpartition(".")[0]
        # Beside ComfyUI's folder, "nodes" by its absolute name is ComfyUI's own.
        if module in MODULES and not (own == "nodes" and name == "nodes"):
            found.add(module)
    return found - {module_of(path)}


def room(module: str) -> str:
    """The entry of LAYERS that a module belongs to: the longest that begins its name."""
    return max((name for name in RANK if f"{module}.".startswith(f"{name}.")), key=len)


def test_every_file_has_a_place():
    placeless = [m for m in MODULES if m != "aai" and not any(f"{m}.".startswith(f"{n}.") for n in RANK)]
    assert placeless == []


@pytest.mark.parametrize("path", PRODUCT, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_file_knows_only_what_stands_before_it(path):
    if module_of(path) == "aai":
        return
    own = room(module_of(path))
    for module in ours(path) - {"aai"}:
        other = room(module)
        assert other == own or RANK[other] < RANK[own], (
            f"{path} imports {module}, which stands beside or above"
        )


def test_no_files_import_each_other():
    graph = {module: ours(path) for module, path in MODULES.items()}
    done: set[str] = set()

    def circle_from(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := circle_from(other, [*way, module]):
                return found
        done.add(module)
        return []

    for module in graph:
        assert circle_from(module, []) == []


@pytest.mark.parametrize(
    "path", [p for p in PRODUCT if "aai" in p.relative_to(ROOT).parts[:1]], ids=lambda p: p.name
)
def test_the_core_knows_no_comfyui(path):
    assert not {name.split(".")[0] for name in imports(path)} & COMFY


def test_only_nodes_comfy_imports_comfyuis_internals():
    for path in (ROOT / "nodes").glob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)} & COMFY
        assert outside <= {"comfy_api", "folder_paths", "nodes"}, path


def test_torchaudio_is_no_run_time_dependency():
    for path in PRODUCT:
        if path.relative_to(ROOT).parts[0] != "bench":
            assert not {name.split(".")[0] for name in imports(path)} & {"torchaudio", "torchcodec"}, path


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom aai.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=60
    )
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
