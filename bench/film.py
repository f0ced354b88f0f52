"""A film's frames against as many plain pictures, on Stable Diffusion 1.5's shape.

Random weights do. A step of a chunk, its source's row and its frames', each with a scale of its own inside
both windows, stands against a step of as many plain pictures as it has frames; and what writing a film of 60
frames holds against one of 600.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from aai import video
from aai.inject.edit import Edit
from aai.picture.attention import injecting
from aai.prompt import Prompt
from aai.token import SoundToken
from bench.edit import largest_held, stable_diffusion_unet

CHUNKS = (1, 4, 8)
SIDE = 256
FRAMES = (60, 600)


def rows(measure) -> list[dict]:
    unet, found = stable_diffusion_unet(), []
    for chunk in CHUNKS:
        seconds = measure(chunk_jobs(unet, chunk))
        each = {name: value / chunk for name, value in seconds.items()}
        plain = each["plain pictures"]
        for name, value in each.items():
            what = f"chunks of {chunk}, {name}: a step of one"
            found.append({"what": what, "value": value, "unit": "s", "ratio": value / plain})
    held = {count: largest_held(lambda count=count: written(count)) for count in FRAMES}
    for count, value in held.items():
        what = f"a film of {count} frames: memory of writing"
        found.append({"what": what, "value": value, "unit": "MiB", "ratio": value / held[FRAMES[0]]})
    return found


def chunk_jobs(unet: torch.nn.Module, chunk: int) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(chunk)
    latents = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=generator).repeat(chunk + 1, 1, 1, 1)
    context = torch.randn(chunk + 1, 77, 768, generator=generator)
    source = (1, 320, 1305, 2, *[None] * 73)
    edited = (1, 320, 1305, 450, ("sound", 0), 2, *[None] * 71)
    token = SoundToken("sound", {"clip_l": torch.zeros(1, 768)})
    scales = tuple({"sound": 0.5 + 0.1 * number} for number in range(chunk))
    prompts = (Prompt("a city under *", (token,)),) * chunk
    edit = Edit(Prompt("a city"), prompts, scales=scales)
    injection = edit.at(0.0, 50, (source, *[edited] * chunk), 77)

    def plain() -> None:
        with torch.no_grad():
            unet(latents[:chunk], 500, encoder_hidden_states=context[:chunk])

    def frames() -> None:
        run = edit.begin(latents.shape[1:], 50, 7.5)
        with injecting(unet, run) as injector, torch.no_grad():
            injector.set(injection, [list(range(chunk + 1))], latents)
            unet(latents, 500, encoder_hidden_states=context)

    return {"plain pictures": plain, "frames of a film": frames}


def written(count: int) -> None:
    """Writes a film of so many different frames."""

    def pictures() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)

    with tempfile.TemporaryDirectory() as folder:
        video.write(Path(folder) / "film.mp4", pictures(), 12)
