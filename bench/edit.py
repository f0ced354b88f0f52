"""An edited pair on Stable Diffusion 1.5's shape against two plain pictures, and against an edit that forms
maps.

Random weights do: nothing depends on what they are. One step inside both windows is measured, the source and
the edited row together; its memory is the process's largest resident set above what it held before, with an
allocator that keeps nothing for later (glibc's, told so): else what an earlier job freed counts for none.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from aai.inject.attention import ValueMix
from aai.inject.edit import Edit
from aai.picture.attention import injecting
from aai.prompt import Prompt
from aai.token import SoundToken

SIZES = (256, 512, 768)
LARGEST_WITH_MAPS = 512
MMAP_THRESHOLD, SMALLEST_MAPPED = -3, 2**16
"""glibc's M_MMAP_THRESHOLD, and from how many bytes on what is freed goes back at once."""


def rows(measure, sizes: Sequence[int] = SIZES) -> list[dict]:
    """Pictures of `sizes` pixels. `measure` times jobs by turns; their memory is measured afterwards, as it
    slows what allocates."""
    unet, found = stable_diffusion_unet(), []
    jobs = {size: step_jobs(unet, size) for size in sizes}
    seconds = {size: measure(of_size) for size, of_size in jobs.items()}
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, SMALLEST_MAPPED)
    for size, of_size in jobs.items():
        for job in of_size.values():
            # What stands afterwards comes with a first run.
            job()
        turns = [{name: largest_held(job) for name, job in of_size.items()} for _ in range(3)]
        held = {name: statistics.median(turn[name] for turn in turns) for name in of_size}
        for what, unit, figures in (("a step", "s", seconds[size]), ("memory", "MiB", held)):
            plain = figures["two plain pictures"]
            found += [
                {"what": f"{size} px, {name}: {what}", "value": value, "unit": unit, "ratio": value / plain}
                for name, value in figures.items()
            ]
    return found


def stable_diffusion_unet() -> torch.nn.Module:
    """Stable Diffusion 1.5's U-Net in float32 with random weights."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return unet.eval().requires_grad_(False)


def step_jobs(unet: torch.nn.Module, size: int) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(size)
    latents = torch.randn(1, 4, size // 8, size // 8, generator=generator).repeat(2, 1, 1, 1)
    context = torch.randn(2, 77, 768, generator=generator)
    source = (1, 320, 1305, 2, *[None] * 73)
    edited = (1, 320, 1305, 450, ("rain", 0), 2, *[None] * 71)
    token = SoundToken("rain", {"clip_l": torch.zeros(1, 768)})
    edit = Edit(Prompt("a city"), (Prompt("a city under *", (token,)),), scales=({"rain": 1.5},))
    injection = edit.at(0.0, 50, (source, edited), 77)

    def step() -> None:
        with torch.no_grad():
            unet(latents, 500, encoder_hidden_states=context)

    def edited_step() -> None:
        run = edit.begin(latents.shape[1:], 50, 7.5)
        with injecting(unet, run) as injector:
            injector.set(injection, [[0, 1]], latents)
            step()

    def edited_by_maps() -> None:
        before = unet.attn_processors
        processor = FormsMaps(injection.mixes[0], latents[0, 0].numel() // edit.self_downscale**2)
        unet.set_attn_processor(processor)
        step()
        unet.set_attn_processor(before)

    jobs = {"two plain pictures": step, "edited pair": edited_step}
    return {**jobs, "edited pair by maps": edited_by_maps} if size <= LARGEST_WITH_MAPS else jobs


class FormsMaps:
    """Attention of a source and an edited row as eq. 7 and 8 are written: maps are formed, edited, and
    multiplied with the values; self-attention's are replaced in layers of at most `places` places."""

    def __init__(self, mix: ValueMix, places: int):
        self.mix, self.places = mix, places

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = heads(attn.to_q(hidden_states)), heads(attn.to_k(context)), heads(attn.to_v(context))
        maps = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        kept = 0.0
        if encoder_hidden_states is not None:
            kept, moved = self.mix.kept, maps[0] * self.mix.given
            maps[1] = maps[1] * self.mix.own
            maps[1].index_add_(-1, self.mix.inverse, moved)
        elif maps.shape[-1] <= self.places:
            maps[1] = maps[0]
        out = maps @ v
        out[1] += kept * out[0]
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


def largest_held(job: Callable[[], object]) -> float:
    """MiB that a job holds at once above what stands before it."""
    gc.collect()
    with _largest_resident_set() as largest:
        job()
    return largest() / 2**20


@contextmanager
def _largest_resident_set():
    """Yields a function that gives, afterwards, the bytes that the process held above what it held before."""
    stop, before = threading.Event(), _resident_set()
    seen = [before]

    def watch() -> None:
        while not stop.wait(0.002):
            seen.append(_resident_set())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(seen) - before
    finally:
        stop.set()
        watcher.join()


def _resident_set() -> int:
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
