"""Workflows that a released version saved run on today's nodes, in a real ComfyUI."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from aai.demo.comfy_server import PACK_NAME, ComfyServer

WORKFLOWS = sorted((Path(__file__).parents[1] / "fixtures" / "0.1.0" / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def server(comfy_path, release, tmp_path_factory):
    base = tmp_path_factory.mktemp("saved")
    pack = base / "custom_nodes" / PACK_NAME
    with zipfile.ZipFile(release) as file:
        file.extractall(pack)
    with ComfyServer(comfy_path, base, pack) as server:
        yield server


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_saved_workflow_runs(server, path):
    graph = server.prompt(json.loads(path.read_text(encoding="utf-8")))
    for part in graph.values():
        if part["class_type"] in ("AAI_TrainSoundToken", "AAI_AlignAudioEncoder", "KSampler"):
            part["inputs"]["steps"] = 2
    result = server.run(graph, timeout=300)
    if path.stem != "align_encoder":
        assert server.pictures(result)
