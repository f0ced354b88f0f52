"""The blueprints: they are served, each of their slots is its node's own, and they run as they are."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import av
import pytest
from PIL import Image

from aai.demo.comfy_server import PACK_NAME, ComfyServer

ROOT = Path(__file__).parents[2]
BLUEPRINTS = {
    p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "subgraphs").glob("*.json"))
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def server(comfy_path, release, tmp_path_factory):
    base = tmp_path_factory.mktemp("subgraphs")
    pack = base / "custom_nodes" / PACK_NAME
    with zipfile.ZipFile(release) as file:
        file.extractall(pack)
    with ComfyServer(comfy_path, base, pack) as server:
        yield server


def inside(name: str) -> dict:
    (subgraph,) = BLUEPRINTS[name]["definitions"]["subgraphs"]
    return subgraph


def around(name: str, inputs: dict[str, tuple[str, list]], ends: list[tuple[str, list]]) -> dict:
    """A workflow with the blueprint's node: {input: (node kind, its widgets)} before it, a node for each
    output behind it."""
    blueprint = BLUEPRINTS[name]
    host = json.loads(json.dumps(blueprint["nodes"][0])) | {"id": 100}
    nodes, links = [host], []
    for kind, values in inputs.values():
        nodes.append({"id": len(nodes), "type": kind, "widgets_values": values, "inputs": []})
    for number, wanted in enumerate(inputs, 1):
        slot = next(i for i, s in enumerate(host["inputs"]) if s["name"] == wanted)
        links.append([number, number, 0, 100, slot, host["inputs"][slot]["type"]])
        host["inputs"][slot]["link"] = number
    for (kind, values), (slot, output) in zip(ends, enumerate(host["outputs"])):
        number, into = len(links) + 1, {"SaveImage": "images", "SaveVideo": "video"}.get(kind, "source")
        end = {"id": 200 + slot, "type": kind, "widgets_values": values}
        nodes.append({**end, "inputs": [{"name": into, "link": number}]})
        links.append([number, 100, slot, end["id"], 0, output["type"]])
    return {"nodes": nodes, "links": links, "definitions": blueprint["definitions"]}


def run(server, workflow: dict, **changes):
    prompt = server.prompt(workflow)
    for part in prompt.values():
        part["inputs"].update({k: v for k, v in changes.items() if k in part["inputs"]})
    return server.run(prompt, timeout=300)


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_one_subgraph_whose_slots_are_its_nodes_own(server, name):
    blueprint, subgraph, info = BLUEPRINTS[name], inside(name), server.object_info()
    (host,) = blueprint["nodes"]
    assert host["type"] == subgraph["id"] and host["title"] == subgraph["name"] == name
    assert [s["name"] for s in host["inputs"]] == [s["name"] for s in subgraph["inputs"]]
    assert [s["type"] for s in host["outputs"]] == [s["type"] for s in subgraph["outputs"]]
    assert all(UUID.fullmatch(one["id"]) for one in (subgraph, *subgraph["inputs"], *subgraph["outputs"]))
    nodes = {n["id"]: n for n in subgraph["nodes"]}
    for saved in nodes.values():
        if saved["type"] == "MarkdownNote":
            continue
        spec = info[saved["type"]]
        module = spec["python_module"]
        assert module.startswith(("nodes", "comfy_extras.")) or PACK_NAME in module, saved["type"]
        assert [o["name"] for o in saved["outputs"]] == spec["output_name"][: len(saved["outputs"])]
        required, optional = (set(spec["input"].get(kind, {})) for kind in ("required", "optional"))
        names = {i["name"] for i in saved["inputs"]}
        missing = required | optional if saved["type"].startswith("AAI_") else required
        assert missing <= names <= required | optional, saved["type"]
    for link in subgraph["links"]:
        origin, target = link["origin_id"], link["target_id"]
        if origin in nodes:
            assert link["id"] in nodes[origin]["outputs"][link["origin_slot"]]["links"]
            assert nodes[origin]["outputs"][link["origin_slot"]]["type"] == link["type"]
        else:
            assert link["id"] in subgraph["inputs"][link["origin_slot"]]["linkIds"]
        if target in nodes:
            assert nodes[target]["inputs"][link["target_slot"]]["link"] == link["id"]
        else:
            assert link["id"] in subgraph["outputs"][link["target_slot"]]["linkIds"]


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_says_what_it_is_and_how_another_checkpoint_comes_in(name):
    extra = BLUEPRINTS[name]["extra"]
    assert extra["BlueprintDescription"] == inside(name)["description"]
    assert extra["BlueprintSearchAliases"]
    (note,) = [n["widgets_values"][0] for n in inside(name)["nodes"] if n["type"] == "MarkdownNote"]
    own = note[note.index("**Your own checkpoint.**") :]
    assert [line[:3] for line in own.splitlines() if line[:1].isdigit()] == ["1. ", "2. ", "3. "]


def test_the_server_offers_the_blueprints(server):
    if not (server.comfy / "app" / "subgraph_manager.py").is_file():
        pytest.skip("this ComfyUI has no blueprints")
    offered = server.get("/global_subgraphs")
    ours = {k: v for k, v in offered.items() if v["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"}
    assert sorted(one["name"] for one in ours.values()) == sorted(BLUEPRINTS)
    for key, one in ours.items():
        assert json.loads(server.get(f"/global_subgraphs/{key}")["data"]) == BLUEPRINTS[one["name"]]


def test_sound_to_picture_runs(server):
    inputs = {"audio": ("AAI_LoadAudio", ["thunder.wav", 0.0, 0.0])}
    ends = [("SaveImage", ["blueprint"]), ("PreviewAny", [])]
    result = run(server, around("Sound to picture", inputs, ends), steps=4, batch_size=2)
    pixels = [Image.open(file).convert("RGB").tobytes() for file in server.pictures(result)]
    assert len(set(pixels)) == 2


def test_sound_edits_a_picture_runs(server):
    inputs = {
        "audio": ("LoadAudio", ["fireworks.wav", None]),
        "image": ("LoadImage", ["beach.png", "image"]),
    }
    ends = [("SaveImage", ["blueprint"])]
    workflow = around("Sound edits a picture", inputs, ends)
    result = run(server, workflow, steps=6, scale="0, 1")
    silent, loud = (Image.open(file).convert("RGB").tobytes() for file in server.pictures(result))
    assert silent != loud


def test_sound_to_film_runs(server):
    inputs = {"audio": ("AAI_LoadAudio", ["evening.wav", 0.0, 3.0])}
    ends = [("SaveVideo", ["blueprint", "auto", "auto"])]
    result = run(server, around("Sound to film", inputs, ends), steps=4)
    (file,) = server.pictures(result)
    with av.open(file) as film:
        assert len(list(film.decode(video=0))) == 12 and film.streams.audio
