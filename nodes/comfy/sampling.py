"""Sampling pairs: which conditioning the injection belongs to, and one noise for a source and its edited
pictures."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import comfy.k_diffusion.sampling as k_diffusion
import torch
from torch import Tensor

from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.invert import check_size
from ...aai.inject.loudness import Reweight
from ...aai.picture.schedule import progress
from .words import READS


def prepared(executor, guider, sigmas, extra_args, callback, noise, *rest, **named):
    """A sampler's `sample`, told which conditionings the injection belongs to; an edit's rows share the noise
    that the sampler draws."""
    from .attention import BLENDING, KEY, TOLD

    options = extra_args["model_options"]["transformer_options"]
    injection: Edit | Reweight | None = options.get(KEY)
    if injection is None:
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    injection.groups(range(len(noise)))
    options[TOLD] = _told(guider.conds, injection)
    sampler = executor.class_obj
    if isinstance(injection, Reweight):
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    blending = injection.blending(tuple(noise.shape[-2:]))
    if blending is not None:
        options[BLENDING] = blending
    function = getattr(sampler, "sampler_function", None)
    if "adaptive" in getattr(function, "__name__", ""):
        raise InputError(
            "The sampler dpm_adaptive chooses its steps by the whole batch, so a source would change with "
            "its edited picture: choose another sampler."
        )
    if injection.trajectory is not None:
        noise = _from_the_end(injection, guider, sampler, sigmas, noise, rest[0])
    before = sampler.extra_options, sampler.inpaint_options
    try:
        if _draws_noise(function) and sampler.extra_options.get("noise_sampler") is None:
            shared = shared_noise(function, noise, sigmas, extra_args.get("seed"), injection.rows)
            sampler.extra_options = {**sampler.extra_options, "noise_sampler": shared}
        # ddim would draw another noise for each row where a mask keeps the latent.
        sampler.inpaint_options = {}
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    finally:
        sampler.extra_options, sampler.inpaint_options = before


def kept_to_source(executor, model, conds, x_in, timestep, model_options):
    """The model's predictions before guidance: an inverted picture's row keeps to its way, and the edited
    rows to where they may differ."""
    from .attention import BLENDING, KEY

    options = model_options.get("transformer_options", {})
    injection, blending = options.get(KEY), options.get(BLENDING)
    way = injection.trajectory if injection is not None else None
    sigma = float(timestep[0])
    if way is not None:
        x_in = way.enter(x_in, sigma, injection.rows)
    predictions = executor(model, conds, x_in, timestep, model_options)
    if way is not None:
        predictions = [way.leave(clean, injection.rows) for clean in predictions]
    if blending is not None:
        share = progress(sigma, options["sample_sigmas"].tolist())
        predictions = [blending.blended(clean, share) for clean in predictions]
    return predictions


def shared_noise(function: Callable, noise: Tensor, sigmas: Tensor, seed: int | None, rows: int) -> Callable:
    """The noise sampler that a k-diffusion sampler makes for itself, drawn once for every `rows` latents."""
    latents = torch.zeros_like(noise[::rows])
    if _is_brownian(function):
        # The samplers called *_gpu draw on the latents' device.
        on_cpu = not function.__name__.endswith("_gpu")
        draw = k_diffusion.BrownianTreeNoiseSampler(
            latents, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu
        )
    else:
        draw = k_diffusion.default_noise_sampler(latents, seed=seed)
    return lambda sigma, sigma_next: draw(sigma, sigma_next).repeat_interleave(rows, 0)


def _from_the_end(injection: Edit, guider, sampler, sigmas: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
    """The noise with which the sampler starts where the inverted picture's way is at its first sigma."""
    way = injection.trajectory
    check_size(way, noise.shape[1:])
    sigma = float(sigmas[0])
    # What core's noise_scaling does with noise and latent, undone.
    amount = (1 + sigma**2) ** 0.5 if sampler.max_denoise(guider, sigmas) else sigma
    return (way.at(sigma).to(noise) - latent) / amount


def _draws_noise(function: Callable | None) -> bool:
    if function is None:
        return False
    return "noise_sampler" in inspect.signature(inspect.unwrap(function)).parameters


def _is_brownian(function: Callable) -> bool:
    """Whether a sampler's own noise is a Brownian tree's, which it may leave to another sampler to make."""
    names = inspect.unwrap(function).__code__.co_names
    called = (
        getattr(k_diffusion, n, None) for n in names if n.startswith("sample_") and n != function.__name__
    )
    return "BrownianTreeNoiseSampler" in names or any(_is_brownian(f) for f in called if callable(f))


def _told(conds: dict[str, list[dict]], injection: Edit | Reweight) -> dict:
    """{uuid: reads} of the conditionings that the injection belongs to.

    Raises InputError where there is none.
    """
    found = {
        c["uuid"]: c[READS]
        for held in conds.values()
        for c in held
        if READS in c and (isinstance(injection, Reweight) or len(c[READS]) == injection.rows)
    }
    if not found:
        raise InputError(
            "This model was prepared by Prompt To Prompt Edit or Loudness Reweight, but the sampler's "
            "positive conditioning is another: connect the conditioning of the same node."
        )
    return found


TRAJECTORY = "aai_trajectory"
"""The key of a LATENT that holds an inverted picture's Trajectory."""


def paired(latent: dict, rows: int) -> dict:
    """A LATENT with each of its latents `rows` times, of one noise."""
    samples = latent["samples"]
    indices = latent.get("batch_index") or list(range(len(samples)))
    made = {
        **latent,
        "samples": samples.repeat_interleave(rows, 0),
        "batch_index": [i for i in indices for _ in range(rows)],
    }
    if "noise_mask" in latent:
        mask = latent["noise_mask"]
        mask = mask.repeat(-(-len(samples) // len(mask)), *[1] * (mask.ndim - 1))[: len(samples)]
        made["noise_mask"] = mask.repeat_interleave(rows, 0)
    return made
