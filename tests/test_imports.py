"""Who may know whom: nodes know aai, aai never ComfyUI, and inside aai knowledge runs downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("errors",),
    ("files",),
    ("audio", "fbank", "image", "comfy_server"),
    ("charts", "embedding"),
    ("token",),
    ("prompt",),
    ("picture",),
    ("align",),
    ("adapt", "inject"),
    ("soundworld",),
    ("study",),
    ("demo_page",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
CORE = sorted((ROOT / "aai").rglob("*.py"))
COMFY = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "comfy_execution",
    "folder_paths",
    "nodes",
    "server",
    "execution",
}


def imports(path: Path) -> list[str]:
    """The absolute module names that a file imports, those under TYPE_CHECKING left out."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_knows_no_comfyui_and_looks_down_only(path):
    own = path.relative_to(ROOT / "aai").with_suffix("").parts[0]
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in COMFY, f"{path} imports {name}"
        if parts[0] == "aai" and len(parts) > 1 and own != "__init__":
            other = parts[1]
            assert other in RANK, f"{path} imports {name}, which has no place among the layers"
            assert RANK[other] < RANK[own] or other == own, f"{path} imports {name}, which stands above it"


def test_every_module_of_the_core_has_a_place():
    names = {path.relative_to(ROOT / "aai").with_suffix("").parts[0] for path in CORE} - {"__init__"}
    assert names <= set(RANK)


def test_only_nodes_comfy_imports_comfyuis_internals():
    allowed = {"comfy_api", "folder_paths"}
    for path in (ROOT / "nodes").glob("*.py"):
        internals = {name.split(".")[0] for name in imports(path)} & (COMFY - allowed)
        assert not internals - {"nodes"}, f"{path} imports {internals}"


def test_torchaudio_is_no_run_time_dependency():
    for path in [*CORE, *(ROOT / "nodes").rglob("*.py")]:
        assert not any(name.split(".")[0] in ("torchaudio", "torchcodec") for name in imports(path)), path


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom aai.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=60, encoding="utf-8"
    )
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
