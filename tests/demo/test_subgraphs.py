"""Subgraphs opened: the nodes within stand in the workflow, and what came in or went out leads to them."""

from aai.demo.comfy_server import api_prompt
from aai.demo.subgraphs import opened

INFO = {
    "Load": {"input": {"required": {"file": [["a.wav", "b.wav"], {}]}}},
    "Loud": {"input": {"required": {"sound": ["AUDIO", {}], "gain": ["FLOAT", {"default": 1.0}]}}},
    "Save": {"input": {"required": {"sound": ["AUDIO", {}]}}},
    "Number": {"input": {"required": {"value": ["FLOAT", {}]}}},
}


def node(number: int, kind: str, *values, **slots) -> dict:
    inputs = [{"name": name, "link": link} for name, link in slots.items()]
    return {"id": number, "type": kind, "widgets_values": list(values), "inputs": inputs}


def link(number: int, origin: int, output: int, target: int, slot: int, kind: str) -> dict:
    places = dict(origin_id=origin, origin_slot=output, target_id=target, target_slot=slot)
    return {"id": number, "type": kind, **places}


TWICE = {
    "id": "twice",
    "inputs": [{"name": "sound"}, {"name": "gain"}],
    "nodes": [node(1, "Loud", 2.0, sound=1, gain=2), node(2, "Loud", 3.0, sound=3, gain=4)],
    "links": [
        link(1, -10, 0, 1, 0, "AUDIO"), link(2, -10, 1, 1, 1, "FLOAT"), link(3, 1, 0, 2, 0, "AUDIO"),
        link(4, -10, 1, 2, 1, "FLOAT"), link(5, 2, 0, -20, 0, "AUDIO"), link(6, 1, 0, -20, 1, "AUDIO"),
    ],
}  # fmt: skip


def workflow(gain: int | None = None, subgraphs=(TWICE,)) -> dict:
    return {
        "nodes": [
            node(1, "Load", "a.wav"), node(5, "twice", sound=1, gain=gain), node(6, "Save", sound=2),
            node(7, "Save", sound=3), node(8, "Number", 0.5),
        ],
        "links": [
            [1, 1, 0, 5, 0, "AUDIO"], [2, 5, 0, 6, 0, "AUDIO"], [3, 5, 1, 7, 0, "AUDIO"],
            *([[4, 8, 0, 5, 1, "FLOAT"]] if gain else []),
        ],
        "definitions": {"subgraphs": list(subgraphs)},
    }  # fmt: skip


def test_what_comes_in_and_goes_out_is_connected_to_the_nodes_within():
    prompt = api_prompt(workflow(), INFO)
    assert prompt["5:1"] == {"class_type": "Loud", "inputs": {"gain": 2.0, "sound": ["1", 0]}}
    assert prompt["5:2"] == {"class_type": "Loud", "inputs": {"gain": 3.0, "sound": ["5:1", 0]}}
    assert prompt["6"]["inputs"] == {"sound": ["5:2", 0]} and prompt["7"]["inputs"] == {"sound": ["5:1", 0]}
    assert "5" not in prompt


def test_one_input_may_go_to_several_nodes():
    prompt = api_prompt(workflow(gain=4), INFO)
    assert prompt["5:1"]["inputs"]["gain"] == prompt["5:2"]["inputs"]["gain"] == ["8", 0]


def test_a_subgraph_may_hold_another():
    inner = {
        "id": "inner",
        "inputs": [{"name": "sound"}],
        "nodes": [node(3, "Loud", 1.5, sound=1)],
        "links": [link(1, -10, 0, 3, 0, "AUDIO"), link(2, 3, 0, -20, 0, "AUDIO")],
    }
    outer = {
        "id": "twice",
        "inputs": [{"name": "sound"}, {"name": "gain"}],
        "nodes": [node(9, "inner", sound=1)],
        "links": [link(1, -10, 0, 9, 0, "AUDIO"), link(2, 9, 0, -20, 0, "AUDIO")],
    }
    prompt = api_prompt(workflow(subgraphs=(outer, inner)), INFO)
    assert prompt["5:9:3"]["inputs"] == {"gain": 1.5, "sound": ["1", 0]}
    assert prompt["6"]["inputs"] == {"sound": ["5:9:3", 0]} and prompt["7"]["inputs"] == {}


def test_what_is_bypassed_is_so_within():
    given = workflow()
    given["nodes"][1]["mode"] = 4
    assert [n["mode"] for n in opened(given)["nodes"] if str(n["id"]).startswith("5:")] == [4, 4]
    assert given == workflow() | {"nodes": given["nodes"]}
