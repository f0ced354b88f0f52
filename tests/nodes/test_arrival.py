"""The pack on machines that are not as they should be: two copies of it, folders that cannot be written, no
network."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from aai.demo.comfy_server import PACK_NAME, ComfyError, ComfyServer

ROOT = Path(__file__).parents[2]
WORKFLOW = json.loads((ROOT / "example_workflows" / "sound_to_picture.json").read_text(encoding="utf-8"))

ALONE = """import socket, sys
connect = socket.socket.connect

def checked(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        import traceback
        print("REACHED OUT", address, "".join(traceback.format_stack()), file=sys.stderr, flush=True)
        raise OSError(101, "Network is unreachable")
    return connect(self, address)

socket.socket.connect = checked
"""
"""A machine without a network, as a `sitecustomize` of the server's Python."""

BOUND = """import ctypes, os
if hasattr(os, "geteuid") and os.geteuid() == 0:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, rights)
    rights[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE, of those in effect
    libc.capset(header, rights)
"""
"""Linux' root bound by what a folder allows its owner, as everyone else is."""


def customized(folder: Path, code: str) -> dict[str, str]:
    """The environment of a Python that runs `code` at its start."""
    (folder / "python").mkdir()
    (folder / "python" / "sitecustomize.py").write_text(code, encoding="utf-8")
    places = (os.fspath(folder / "python"), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, places))}


@pytest.fixture
def unpacked(release, tmp_path):
    pack = tmp_path / "custom_nodes" / PACK_NAME
    with zipfile.ZipFile(release) as file:
        file.extractall(pack)
    return pack


def test_a_second_copy_of_the_pack_stays_closed(comfy_path, unpacked, tmp_path):
    shutil.copytree(unpacked, unpacked.with_name("second-copy"))
    with ComfyServer(comfy_path, tmp_path, unpacked) as server:
        info = server.object_info()
        copies = {node["python_module"] for name, node in info.items() if name.startswith("AAI_")}
        assert len(copies) == 1
        (used,) = copies
        other = ({PACK_NAME, "second-copy"} - {used.removeprefix("custom_nodes.")}).pop()
        assert server.log.count("AAI Sound Tokens is in custom_nodes twice") == 1
        assert f"'{used.removeprefix('custom_nodes.')}' is in use" in server.log
        assert "Traceback" not in server.log
        scripts = server.get("/extensions")
        assert any(f"/{used.removeprefix('custom_nodes.')}/" in path for path in scripts)
        assert not any(f"/{other}/" in path for path in scripts)
        assert len(server.run(server.prompt(WORKFLOW), timeout=300).images()) == 4


def test_folders_that_cannot_be_written_are_told(comfy_path, unpacked, tmp_path):
    """The input folder lacks the templates' sounds then, and a token cannot be saved; the rest goes on."""
    for name in ("input", "models/embeddings"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "example_workflows" / "input" / "thunder.wav", tmp_path / "input")
    for name in ("input", "models/embeddings", "models"):
        (tmp_path / name).chmod(0o555)
    try:
        with ComfyServer(comfy_path, tmp_path, unpacked, customized(tmp_path, BOUND)) as server:
            assert "The templates' fire.wav was not placed in the input folder" in server.log
            prompt = server.prompt(WORKFLOW)
            with pytest.raises(ComfyError, match="cannot be (made|written to)"):
                server.run(prompt, timeout=300)
            saving = next(k for k, n in prompt.items() if n["class_type"] == "AAI_SaveSoundToken")
            prompt.pop(saving)
            assert len(server.run(prompt, timeout=300).images()) == 4
    finally:
        for name in ("input", "models", "models/embeddings"):
            (tmp_path / name).chmod(0o755)


def test_the_example_runs_without_a_network(comfy_path, unpacked, tmp_path):
    with ComfyServer(comfy_path, tmp_path, unpacked, customized(tmp_path, ALONE)) as server:
        assert len(server.run(server.prompt(WORKFLOW, awake=True), timeout=300).images()) == 4
        reached = server.log.split("REACHED OUT")[1:]
        assert not [where for where in reached if PACK_NAME in where], reached
