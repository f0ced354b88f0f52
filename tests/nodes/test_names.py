"""Names are final: what saved workflows say of our nodes stays true.

    python -m pytest tests/nodes/test_names.py --write     # after adding nodes, inputs or outputs

CONTRIBUTING.md says what may change.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("names.json")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def names_of(node) -> dict[str, list[list[str]]]:
    """A node's inputs [id, type, required or optional] and outputs [id, type], in the front end's order."""
    schema = node.GET_SCHEMA()
    slots = sorted(schema.inputs or [], key=lambda slot: bool(slot.optional))
    return {
        "inputs": [[s.id, s.io_type, "optional" if s.optional else "required"] for s in slots],
        "outputs": [[s.id, s.io_type] for s in schema.outputs or []],
    }


def broken(node_id: str, old: dict | None, new: dict | None) -> list[str]:
    """What of a workflow saved with the node `old` the node `new` cannot run."""
    if old is None:
        return []
    if new is None:
        return [f"{node_id} is gone: an id never changes"]
    faults = []
    for kind in ("inputs", "outputs"):
        before, after = old[kind], new[kind]
        kept = [slot for slot in after if slot[0] in [s[0] for s in before]]
        missing = [s[0] for s in before if s[0] not in [s[0] for s in after]]
        if missing:
            faults.append(f"{node_id} lost {kind} {', '.join(missing)}: ids stay, display_name may change")
        elif [s[:2] for s in kept] != [s[:2] for s in before]:
            faults.append(f"{node_id}'s {kind} changed their order or type")
    widgets = [slot[0] for slot in old["inputs"] if slot[1] in WIDGETS]
    now = [slot[0] for slot in new["inputs"] if slot[1] in WIDGETS]
    if not set(widgets) - set(now) and now[: len(widgets)] != widgets:
        faults.append(f"{node_id}'s widgets changed places, and saved ones go by them: new ones come last")
    first = [slot[0] for slot in old["outputs"]]
    if [slot[0] for slot in new["outputs"]][: len(first)] != first:
        faults.append(f"{node_id}'s outputs changed places: new ones come last")
    return faults


def write(names: dict) -> None:
    lines = []
    for node_id, slots in names.items():
        kinds = []
        for kind in ("inputs", "outputs"):
            rows = ",\n".join(f"   {json.dumps(slot)}" for slot in slots[kind])
            kinds.append(f'  "{kind}": [\n{rows}\n  ]' if rows else f'  "{kind}": []')
        lines.append(f' "{node_id}": {{\n' + ",\n".join(kinds) + "\n }")
    LIST.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")


def test_the_pack_is_as_the_list_says(pack, pytestconfig):
    names = {node_id: names_of(node) for node_id, node in sorted(pack.nodes.items())}
    listed = json.loads(LIST.read_text(encoding="utf-8")) if LIST.exists() else {}
    faults = [fault for node_id in listed for fault in broken(node_id, listed[node_id], names.get(node_id))]
    assert not faults, "; ".join(faults)
    if pytestconfig.getoption("--write"):
        write(names)
    assert names == json.loads(LIST.read_text(encoding="utf-8")), (
        "run this test with --write and commit tests/nodes/names.json"
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda n: n["inputs"].append(["more", "INT", "optional"]), None),
        (lambda n: n["outputs"].append(["more", "INT"]), None),
        (lambda n: n["inputs"].insert(0, ["more", "MODEL", "required"]), None),
        (lambda n: n["inputs"].insert(0, ["more", "INT", "required"]), "widgets changed places"),
        (lambda n: n["inputs"].insert(1, ["more", "COMBO", "required"]), "widgets changed places"),
        (lambda n: n["inputs"].pop(), "lost inputs b"),
        (lambda n: n["inputs"].reverse(), "order or type"),
        (lambda n: n["inputs"].__setitem__(0, ["a", "FLOAT", "required"]), "order or type"),
        (lambda n: n["outputs"].insert(0, ["more", "INT"]), "new ones come last"),
    ],
)
def test_what_breaks_a_saved_workflow_is_told(change, fault):
    def made() -> dict:
        return {"inputs": [["a", "INT", "required"], ["b", "INT", "optional"]], "outputs": [["c", "INT"]]}

    changed = made()
    change(changed)
    faults = broken("AAI_Node", made(), changed)
    assert (faults == []) if fault is None else any(fault in line for line in faults)
    assert broken("AAI_Node", made(), None) == ["AAI_Node is gone: an id never changes"]
