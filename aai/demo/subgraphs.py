"""Subgraphs of a saved workflow, opened: as the front end does before it queues one."""

from __future__ import annotations

import copy

INPUTS, OUTPUTS = -10, -20
"""The ids by which a subgraph's links name what comes in and what goes out."""


def opened(workflow: dict) -> dict:
    """A saved workflow whose subgraphs' nodes stand in it themselves, node 7 of the subgraph that node 5 is
    called "5:7", as the front end calls it. Values are those of the nodes within; what the subgraph's node
    itself keeps for them is not looked at."""
    definitions = {one["id"]: one for one in workflow.get("definitions", {}).get("subgraphs", [])}
    nodes, links = copy.deepcopy(workflow["nodes"]), [list(link) for link in workflow["links"]]
    while host := next((node for node in nodes if node["type"] in definitions), None):
        nodes, links = _with_opened(host, copy.deepcopy(definitions[host["type"]]), nodes, links)
    return {**workflow, "nodes": nodes, "links": links}


def _with_opened(host: dict, subgraph: dict, nodes: list, links: list) -> tuple[list, list]:
    number = max((link[0] for link in links), default=0)
    inner = {node["id"]: node for node in subgraph["nodes"]}
    for node in inner.values():
        node["id"] = f"{host['id']}:{node['id']}"
        node["mode"] = host.get("mode", 0) or node.get("mode", 0)
        for slot in node.get("inputs") or []:
            slot["link"] = None
    outer = {link[0]: link for link in links}
    kept = [link for link in links if host["id"] not in (link[1], link[3])]

    def connect(origin: int | str, output: int, target: dict, slot: int, kind: str) -> None:
        nonlocal number
        number += 1
        kept.append([number, origin, output, target["id"], slot, kind])
        target["inputs"][slot]["link"] = number

    others = {node["id"]: node for node in nodes}
    entering = {slot["name"]: outer.get(slot.get("link")) for slot in host["inputs"]}
    for link in subgraph["links"]:
        origin, output = link["origin_id"], link["origin_slot"]
        target, slot = link["target_id"], link["target_slot"]
        if origin == INPUTS and target != OUTPUTS:
            given = entering.get(subgraph["inputs"][output]["name"])
            if given:
                connect(given[1], given[2], inner[target], slot, given[5])
        elif target == OUTPUTS and origin != INPUTS:
            for leaving in links:
                if (leaving[1], leaving[2]) == (host["id"], slot):
                    connect(inner[origin]["id"], output, others[leaving[3]], leaving[4], link["type"])
        elif origin in inner and target in inner:
            connect(
                inner[origin]["id"], link["origin_slot"], inner[target], link["target_slot"], link["type"]
            )
    return [node for node in nodes if node is not host] + list(inner.values()), kept
