"""An edited pair on Flux's shape, cut in depth, against two plain pictures: joint attention in one call where
the structure is borrowed, and in two where the word is scaled.

Random weights do: nothing depends on what they are. One double and two single blocks, without a GPU one
double alone, stand for 19 and 38 of the same, which take as long a token; the embeddings, which an edit does
not touch, weigh more here than there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from aai.inject.edit import Edit
from aai.inject.joint import JointInjection
from aai.prompt import Prompt
from aai.token import SoundToken
from bench.edit import MMAP_THRESHOLD, SMALLEST_MAPPED, largest_held

SIZES = (512, 1024)
TEXT, DEPTH, DEPTH_WITHOUT_GPU = 512, (1, 2), (1, 0)


def rows(measure, sizes: Sequence[int] = SIZES) -> list[dict]:
    """Pictures of `sizes` pixels: a step's time, and its memory measured afterwards."""
    model, found = flux(), []
    jobs = {size: step_jobs(model, size) for size in sizes}
    seconds = {size: measure(of_size) for size, of_size in jobs.items()}
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, SMALLEST_MAPPED)
    for size, of_size in jobs.items():
        held = {name: _held(job) for name, job in of_size.items()}
        for what, unit, figures in (("a step", "s", seconds[size]), ("memory", "MiB", held)):
            plain = figures["two plain pictures"]
            found += [
                {"what": f"flux {size} px, {name}: {what}", "value": value, "unit": unit,
                 "ratio": value / plain}
                for name, value in figures.items()
            ]  # fmt: skip
    return found


def flux() -> torch.nn.Module:
    """Flux.1's transformer in bfloat16, of a few blocks."""
    from diffusers import FluxTransformer2DModel

    double, single = DEPTH if torch.cuda.is_available() else DEPTH_WITHOUT_GPU
    before = torch.get_default_dtype()
    # In float32 it would hold twice as much while it is made.
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = FluxTransformer2DModel(num_layers=double, num_single_layers=single, guidance_embeds=True)
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def _held(job: Callable[[], object]) -> float:
    """MiB that a job holds at once above what stands before it, of the GPU's memory where there is one."""
    if not torch.cuda.is_available():
        return largest_held(job)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    job()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def step_jobs(model: torch.nn.Module, size: int) -> dict[str, Callable[[], object]]:
    weight, side = model.x_embedder.weight, size // 16
    generator = torch.Generator().manual_seed(size)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(weight)

    given = dict(
        hidden_states=drawn(1, side * side, 64).repeat(2, 1, 1), encoder_hidden_states=drawn(2, TEXT, 4096),
        pooled_projections=drawn(2, 768), timestep=drawn(2).sigmoid(), guidance=drawn(2).abs(),
        img_ids=torch.zeros(side * side, 3).to(weight), txt_ids=torch.zeros(TEXT, 3).to(weight),
    )  # fmt: skip
    source = (3, 9, 1, *[None] * (TEXT - 3))
    edited = (3, 9, 5, ("rain", 0), 1, *[None] * (TEXT - 5))
    token = SoundToken("rain", {"t5xxl": torch.zeros(1, 4096)})

    def injection(scale: float, window: tuple[float, float]) -> JointInjection:
        prompts = Prompt("a city"), (Prompt("a city under *", (token,)),)
        edit = Edit(*prompts, scales=({"rain": scale},), self_window=window)
        return edit.joint_at(0.0, 20, [source, edited]).to(weight)

    def step() -> None:
        with torch.no_grad():
            model(**given)
        if weight.is_cuda:
            torch.cuda.synchronize()

    def edited_step(now: JointInjection) -> Callable[[], None]:
        def job() -> None:
            plain = F.scaled_dot_product_attention
            with _attention(model, now, plain):
                step()

        return job

    return {
        "two plain pictures": step,
        "pair, structure": edited_step(injection(1.0, (0.0, 0.2))),
        "pair, scale": edited_step(injection(0.5, (0.0, 0.0))),
        "pair, structure and scale": edited_step(injection(0.5, (0.0, 0.2))),
    }


class _attention:
    """Inside, a diffusers Flux's attention is an injection's, of a batch that is one pair."""

    def __init__(self, model: torch.nn.Module, injection: JointInjection, plain: Callable):
        self.model, self.injection, self.plain = model, injection, plain

    def __enter__(self) -> None:
        import diffusers.models.transformers.transformer_flux as module

        self.module, self.before = module, module.dispatch_attention_fn

        def attend(q, k, v, queries, rows):
            return self.plain(q, k, v)

        def dispatch(q, k, v, **named):
            # diffusers keeps the places before the heads.
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            out = self.injection.joint_attention(attend, q, k, v, [[0, 1]], slice(0, TEXT))
            return out.transpose(1, 2)

        module.dispatch_attention_fn = dispatch

    def __exit__(self, *_) -> None:
        self.module.dispatch_attention_fn = self.before
