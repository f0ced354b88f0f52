"""Commands that write, killed at any moment and run again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.table import aligned

ROOT = Path(__file__).parents[2]
LONG = 600.0


@dataclass(frozen=True)
class Command:
    """A command that writes: its arguments, run in the folder of the inputs, and what it leaves, which must
    be what an unbroken run leaves."""

    arguments: tuple[str, ...]
    leaves: tuple[str, ...]


TRAINED = ("--force", "--train-steps", "3", "--refs", "photos", "-k", "2", "--batch", "1")
COMMANDS = {
    "token": Command(
        ("token", "rain.wav", "-o", "out/rain.safetensors", *TRAINED), ("out/rain.safetensors",)
    ),
    "rebind": Command(
        ("rebind", "made.safetensors", "fire.wav", "-o", "out/fire.safetensors", "--force"),
        ("out/fire.safetensors",),
    ),
    "generate": Command(
        (
            *("generate", "--token", "made.safetensors", "--prompt", "a city under *", "-o", "out/city.png"),
            *("--force", "--steps", "4", "--count", "2"),
        ),
        ("out/city_0.png", "out/city_1.png"),
    ),
    "data prepare": Command(
        ("data", "prepare", "data", "-o", "out/set", "--workers", "1", "--frames", "2", "--keep", "1"),
        ("out/set",),
    ),
    "align train": Command(
        (
            *("align", "train", "data", "-o", "out/encoder.safetensors", "--force", "--steps", "6"),
            *("--batch", "4", "--save-every", "1", "--encoder", "small.safetensors"),
        ),
        ("out/encoder.safetensors",),
    ),
    "library index": Command(
        ("library", "index", "photos", "-o", "out/index.safetensors"), ("out/index.safetensors",)
    ),
    "invert": Command(
        (
            *("invert", "photos/0.png", "--prompt", "a village", "-o", "out/way.safetensors", "--force"),
            *("--invert-steps", "6"),
        ),
        ("out/way.safetensors",),
    ),
}


def run(command: Command, folder: Path, kill_after: float | None = None) -> tuple[int, float, str]:
    """Exit code (-9 where it was killed), seconds, and stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "aai", *command.arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=LONG if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        # All of it: `data prepare` has processes of its own.
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
    return process.returncode, time.monotonic() - begin, said.decode(errors="replace")


def contents(folder: Path, leaves: Sequence[str]) -> dict[str, str]:
    """{file: its hash} of what a command has left."""
    found = {}
    for name in leaves:
        path = folder / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.exists():
                found[str(file.relative_to(folder))] = _digest(file)
    return found


def _digest(file: Path) -> str:
    content = file.read_bytes()
    if file.suffix == ".safetensors":
        # Its entries stand in another order in every process.
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        content = json.dumps(header, sort_keys=True).encode() + content[8 + size :]
    return hashlib.sha256(content).hexdigest()


def make_inputs(folder: Path) -> None:
    """Sounds, pictures, a data set, a token and a small encoder."""
    import torch
    from PIL import Image

    from aai import audio
    from aai.encoders import loaders
    from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
    from aai.encoders.cavmae_encoder import CAVMAEEncoder
    from aai.soundworld.sounds import synthesize
    from aai.token import SoundToken

    (folder / "photos").mkdir(parents=True)
    for i in range(24):
        Image.effect_noise((64 + i, 64), 20 + i).convert("RGB").save(folder / "photos" / f"{i}.png")
    for event in ("rain", "fire"):
        audio.save(synthesize(event, 0.8, seed=1), folder / f"{event}.wav")
        for i in range(6):
            (folder / "data" / event).mkdir(parents=True, exist_ok=True)
            audio.save(synthesize(event, 0.5, seed=i), folder / "data" / event / f"{i}.wav")
            shutil.copy(folder / "photos" / f"{i}.png", folder / "data" / event / f"{i}.png")
    torch.manual_seed(0)
    config = CAVMAEConfig(
        dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, seconds=0.64
    )
    model = CAVMAE(config).requires_grad_(False)
    loaders.save(
        CAVMAEEncoder(model, ["rain", "fire"], torch.randn(2, 16), name="small"), folder / "small.safetensors"
    )
    adapter = {"clip_l": torch.randn(1, 192) * 0.02}
    f_a = torch.randn(192)
    token = SoundToken(
        "made", {"clip_l": f_a[None] + adapter["clip_l"]}, f_a, adapter, {"clip_l": None}, -20.0
    )
    token.save(folder / "made.safetensors")


def kill_all(count: int, names: Sequence[str], base: Path, moments: random.Random, report: dict) -> None:
    """So many kills, spread evenly over the commands."""
    inputs = base / "inputs"
    make_inputs(inputs)
    rows, heads = [], ["command", "unbroken s", "kills", "killed", "second runs", "equal", "left over"]
    for place, name in enumerate(names):
        kills = count // len(names) + (place < count % len(names))
        if kills:
            rows.append([name, *_kill(name, kills, inputs, base / name.replace(" ", "_"), moments, report)])
            print(f"  {name}: {rows[-1][2]} kills, {rows[-1][5]} equal", flush=True)
    print(aligned([heads, *rows]), flush=True)
    report["kills"] = [dict(zip(heads, row)) for row in rows]


def _kill(name: str, kills: int, inputs: Path, base: Path, moments: random.Random, report: dict) -> list:
    command = COMMANDS[name]
    folder = base / "work"

    def fresh() -> None:
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(inputs, folder)
        (folder / "out").mkdir()

    fault: Callable[[str], None] = lambda text: report["faults"].append(f"{name}: {text}")  # noqa: E731
    fresh()
    code, seconds, said = run(command, folder)
    if code:
        fault(f"the unbroken run ended with {code}: {said[-200:]}")
        return [round(seconds, 1), 0, 0, 0, 0, 0]
    whole = contents(folder, command.leaves)
    killed = again = equal = left = 0
    for _ in range(kills):
        fresh()
        after = moments.uniform(0.1, seconds)
        code, _, _ = run(command, folder, after)
        killed += code == -signal.SIGKILL
        code, _, said = run(command, folder)
        if code:
            fault(f"killed after {after:.1f} s, the second run ended with {code}: {said[-200:]}")
            continue
        again += 1
        same = contents(folder, command.leaves) == whole
        equal += same
        if not same:
            fault(f"killed after {after:.1f} s, the second run's files are not those of an unbroken one")
        left += sum(1 for path in folder.rglob(".*.part") if path.is_file())
    return [round(seconds, 1), kills, killed, again, equal, left]
