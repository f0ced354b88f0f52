"""Prompts queued to a ComfyUI server, some of them cancelled, and what they do to its memory and its open
files."""

from __future__ import annotations

import copy
import json
import os
import random
import time
from pathlib import Path
from statistics import median

from aai.demo.comfy_server import ComfyError, ComfyServer, find_comfy
from tests.fuzz.table import aligned

ROOT = Path(__file__).parents[2]
AT_ONCE = 8
"""Prompts that wait in the queue together."""
WAIT = 600.0
"""Seconds that the server may take to start, and a prompt to end."""
GROWTH = 2**18
"""Bytes that a prompt may leave behind, on average over the second half."""
SAMPLES = 10


def graph(seed: int) -> dict:
    """A sound, its token in a prompt, two steps at 64 x 64."""
    return {
        "1": {"class_type": "AAI_LoadSoundWorld", "inputs": {}},
        "2": {"class_type": "AAI_LoadAudio", "inputs": {"audio": "fire.wav", "start": 0.0, "length": 0.0}},
        "3": {
            "class_type": "AAI_EncodeSound",
            "inputs": {"audio": ["2", 0], "sound_encoder": ["1", 3], "count": 3},
        },
        "4": {"class_type": "AAI_LoadSoundToken", "inputs": {"file": "soak.safetensors"}},
        "5": {
            "class_type": "AAI_SoundTokenConditioning",
            "inputs": {"clip": ["1", 1], "prompt": f"a city {seed} under *", "token": ["4", 0]},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "7": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "8": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["1", 0], "positive": ["5", 0], "negative": ["6", 0], "latent_image": ["7", 0]},
                **{"seed": seed, "steps": 2, "cfg": 3.0, "denoise": 1.0},
                **{"sampler_name": "euler", "scheduler": "normal"},
            },
        },
        "9": {"class_type": "VAEDecode", "inputs": {"samples": ["8", 0], "vae": ["1", 2]}},
        "10": {"class_type": "PreviewImage", "inputs": {"images": ["9", 0]}},
        "11": {"class_type": "PreviewAny", "inputs": {"source": ["3", 1]}},
    }


def usage(server: ComfyServer) -> tuple[int, int]:
    """The server's bytes in memory, and its open files."""
    place = Path(f"/proc/{server.process.pid}")
    pages = int((place / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list((place / "fd").iterdir()))


def queue_many(count: int, base: Path, moments: random.Random, report: dict) -> ComfyServer | None:
    """Starts a server and gives it so many prompts; None where there is no ComfyUI."""
    comfy = find_comfy()
    if comfy is None:
        print("No ComfyUI here (COMFYUI_PATH is not set): no prompts were queued.", flush=True)
        return None
    base.mkdir(parents=True)
    server = ComfyServer(comfy, base, ROOT)
    server.start(WAIT)
    server.upload(ROOT / "example_workflows" / "input" / "fire.wav")
    _make_token(base / "models" / "embeddings" / "soak.safetensors")
    rows, waiting, done, failed = [], [], 0, []
    begin = time.monotonic()
    every = max(1, count // SAMPLES)
    for number in range(count):
        waiting.append(server.queue(graph(moments.randrange(2**32))))
        if len(waiting) < AT_ONCE and number + 1 < count:
            continue
        for prompt in waiting:
            try:
                server.wait(prompt, WAIT)
            except ComfyError as error:
                failed.append(str(error))
            done += 1
            if done % every == 0:
                rows.append([done, round(time.monotonic() - begin, 1), *usage(server)])
        waiting = []
    report["prompts"] = {"queued": count, "failed": len(failed), "usage": rows}
    report["faults"] += [f"a prompt failed: {sentence}" for sentence in failed[:5]]
    heads = ["prompts", "seconds", "MB", "open files"]
    print(aligned([heads, *([n, s, b >> 20, f] for n, s, b, f in rows)]), flush=True)
    half = rows[len(rows) // 2 :]
    if len(half) >= 3:
        growth = (half[-1][2] - half[0][2]) / (half[-1][0] - half[0][0])
        files = half[-1][3] - half[0][3]
        print(f"{growth / 1024:.0f} KB and {files / (half[-1][0] - half[0][0]):.2f} open files a prompt")
        if growth > GROWTH:
            report["faults"].append(f"memory grows by {growth / 1024:.0f} KB a prompt")
        if files > 5:
            report["faults"].append(f"{files} more files are open after the second half of the prompts")
    return server


def _make_token(path: Path) -> None:
    import torch

    from aai.token import SoundToken

    path.parent.mkdir(parents=True, exist_ok=True)
    SoundToken("soak", {"clip_l": torch.randn(1, 192, generator=torch.Generator().manual_seed(0))}).save(path)


def cancel_some(server: ComfyServer, count: int, moments: random.Random, report: dict) -> None:
    """Cancels trainings and samplings at any moment; the next prompt must then run."""
    text = (ROOT / "example_workflows" / "sound_to_picture.json").read_text(encoding="utf-8")
    template = server.prompt(json.loads(text), awake=True)
    for name in ("thunder.wav", "fire.wav"):
        server.upload(ROOT / "example_workflows" / "input" / name)
    rows = []
    for _ in range(count):
        long = copy.deepcopy(template)
        for node in long.values():
            if node["class_type"] in ("AAI_TrainSoundToken", "KSampler"):
                node["inputs"]["steps"] = 300
            if "seed" in node["inputs"]:
                node["inputs"]["seed"] = moments.randrange(2**32)
        wait = moments.uniform(0, 12)
        prompt = server.queue(long)
        time.sleep(wait)
        server.interrupt()
        begin = time.monotonic()
        try:
            server.wait(prompt, 60)
            outcome = "it had ended"
        except ComfyError as error:
            outcome = error.message
        ended = time.monotonic() - begin
        if outcome not in ("interrupted", "it had ended"):
            report["faults"].append(f"a cancel after {wait:.1f} s: {outcome}")
        try:
            server.run(graph(moments.randrange(2**32)), WAIT)
        except ComfyError as error:
            report["faults"].append(f"the prompt after a cancel failed: {error}")
        rows.append({"after": round(wait, 2), "outcome": outcome, "ended": round(ended, 2)})
    report["cancels"] = rows
    if rows:
        interrupted = sum(row["outcome"] == "interrupted" for row in rows)
        middle, last = median(row["ended"] for row in rows), max(row["ended"] for row in rows)
        print(f"{len(rows)} cancels, {interrupted} of work that had not ended: over in {middle:.1f} s "
              f"(median), {last:.1f} s at most")  # fmt: skip
