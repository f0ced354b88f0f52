"""A film's frames against as many plain pictures, on SoundWorld's U-Net, or with `--sizes` on Stable
Diffusion 1.5's shape (random weights do).

A step of a chunk, its source's row and its frames', each with a scale of its own inside both windows, stands
against a step of as many plain pictures as it has frames. And what `aai film` holds at its most, all of its
process, for a film of SoundWorld's of 60 frames against one of 600, of one step each: what differs is how
many frames are heard, drawn, kept and written.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from aai import audio
from aai.audio import Sound
from aai.errors import InputError
from aai.inject.edit import Edit
from aai.picture.attention import injecting
from aai.prompt import Prompt
from aai.soundworld.loaders import load_picture_model
from aai.soundworld.sounds import synthesize
from aai.token import SoundToken
from bench.edit import stable_diffusion_unet

ROOT = Path(__file__).parents[1]

CHUNKS = (1, 4, 8)
SIDE = 128
FRAMES = (60, 600)
RATE, PART = 8, 5.0
"""Frames a second of those films, and seconds of each sound in them."""


def rows(measure, frames: Sequence[int] = FRAMES, sizes: Sequence[int] | None = None) -> list[dict]:
    """`measure` times jobs by turns; `frames` are those of the films whose memory is measured, the first what
    the others are compared with. `sizes`: the sides in pixels, on Stable Diffusion 1.5's shape."""
    found = []
    unet = stable_diffusion_unet() if sizes else load_picture_model().unet
    for side in sizes or (SIDE,):
        for chunk in CHUNKS:
            seconds = measure(chunk_jobs(unet, chunk, side))
            each = {name: value / chunk for name, value in seconds.items()}
            plain = each["plain pictures"]
            for name, value in each.items():
                what = f"{side} px, chunks of {chunk}, {name}: a step of one"
                found.append({"what": what, "value": value, "unit": "s", "ratio": value / plain})
    del unet
    held = {count: film_memory(count) for count in frames}
    for count, value in held.items():
        what = f"aai film, {count} frames: its memory at the most"
        found.append({"what": what, "value": value, "unit": "MiB", "ratio": value / held[frames[0]]})
    return found


def chunk_jobs(unet: torch.nn.Module, chunk: int, side: int = SIDE) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(chunk)
    channels, width = unet.config.in_channels, unet.config.cross_attention_dim
    latents = torch.randn(1, channels, side // 8, side // 8, generator=generator).repeat(chunk + 1, 1, 1, 1)
    context = torch.randn(chunk + 1, 77, width, generator=generator)
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


def film_memory(count: int) -> float:
    """MiB that `aai film` holds at its most while it makes a film of so many frames."""
    with tempfile.TemporaryDirectory() as folder:
        audio.save(swelling(count / RATE), Path(folder) / "sound.wav")
        arguments = ["film", "sound.wav", "--source", "a city", "--edited", "a city with *", "-o", "film.mp4"]
        arguments += ["--steps", "1", "--fps", str(RATE), "--attack", "0", "--release", "0"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        process = subprocess.Popen(
            [sys.executable, "-m", "aai", *arguments], cwd=folder, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # Of this child alone: its own count, not the largest of all children's.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not (Path(folder) / "film.mp4").exists():
            raise InputError(f"aai film made no film of {count} frames: run it by hand to see why.")
        return usage.ru_maxrss / 2**10


def swelling(seconds: float) -> Sound:
    """Rain and fire in turn, each moment of them as loud as no other nearby: few frames show the same."""
    events, parts = ("rain", "fire"), []
    for number in range(math.ceil(seconds / PART)):
        part = synthesize(events[number % 2], 0.8, seed=number)
        parts.append(part.waveform.repeat(1, math.ceil(PART * part.rate / part.waveform.shape[-1])))
        parts[-1] = parts[-1][:, : round(PART * part.rate)]
    waveform = torch.cat(parts, 1)[:, : round(seconds * part.rate)]
    swell = torch.linspace(0, math.pi * seconds / PART, waveform.shape[-1]).sin().abs()
    return Sound(waveform * (0.05 + 0.95 * swell), part.rate)
