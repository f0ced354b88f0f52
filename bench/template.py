"""The first template, from Run to its pictures, in a ComfyUI server of its own: this pack against another
version of it, a clone (`--checkout`).

The first run loads the models; those after it have another sound each, so that nothing is kept but these.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from aai.demo.comfy_server import ComfyServer, find_comfy
from aai.errors import InputError

ROOT = Path(__file__).parents[1]
TEMPLATE = Path("example_workflows") / "sound_to_picture.json"
SOUNDS = ("thunder.wav", "fire.wav", "fireworks.wav")
"""Of the templates of every version: the first is the template's own."""


def rows(_measure, checkout: Path | None) -> list[dict]:
    """The seconds from Run to the last picture of either version, and their ratio to the other version's.
    Raises InputError without a ComfyUI, or a clone to compare with."""
    comfy = find_comfy()
    if comfy is None:
        raise InputError("There is no ComfyUI: set COMFYUI_PATH to its folder.")
    if checkout is None or not (checkout / TEMPLATE).is_file():
        raise InputError("There is no version to compare with: give a clone of one with --checkout DIR.")
    other, ours = (seconds(comfy, pack) for pack in (checkout, ROOT))
    found = []
    for what, taken in (("the other version", other), ("this version", ours)):
        for when, own, beside in zip(("just started", "again, another sound"), taken, other):
            row = {
                "what": f"first template, {what}, {when}",
                "value": own,
                "unit": "s",
                "ratio": own / beside,
            }
            found.append(row)
    return found


def seconds(comfy: Path, pack: Path) -> tuple[float, float]:
    """From Run to the last picture: in a server that has just started, and again, a median."""
    workflow = json.loads((pack / TEMPLATE).read_text(encoding="utf-8"))
    taken = []
    with tempfile.TemporaryDirectory() as base, ComfyServer(comfy, Path(base), pack) as server:
        for sound in SOUNDS:
            prompt = with_sound(server.prompt(workflow), sound)
            begin = time.perf_counter()
            server.run(prompt)
            taken.append(time.perf_counter() - begin)
    return taken[0], statistics.median(taken[1:])


def with_sound(prompt: dict, sound: str) -> dict:
    """The prompt with another file in the place of the template's."""
    for node in prompt.values():
        node["inputs"] = {k: sound if v == SOUNDS[0] else v for k, v in node["inputs"].items()}
    return prompt
