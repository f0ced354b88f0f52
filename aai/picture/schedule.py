"""Noise schedules and Euler sampling in sigmas, sigma = noise / signal (Karras et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError


def alphas_cumprod(config: Mapping[str, object]) -> Tensor:
    """The signal's share of the variance at each timestep [T], from a diffusers scheduler's configuration."""
    from diffusers import DDPMScheduler

    values = DDPMScheduler.from_config(dict(config)).alphas_cumprod
    # A schedule that ends in pure noise has no finite last sigma; this is the value that ComfyUI gives it.
    return values.clamp(min=4.8973451890853435e-08)


def is_v_prediction(config: Mapping[str, object]) -> bool:
    """Whether the model predicts v; else it predicts the noise. Raises InputError for anything else."""
    kind = config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise InputError(
            f"Models that predict '{kind}' are not supported: load one that predicts noise or v."
        )
    return kind == "v_prediction"


def sigmas_of(alphas: Tensor) -> Tensor:
    """Sigma at each timestep [T]."""
    return ((1 - alphas) / alphas).sqrt()


def normal(sigmas: Tensor, steps: int) -> Tensor:
    """`steps` sigmas at evenly spaced timesteps, from the last to the first, and a 0: [steps + 1].

    Raises InputError for less than one step.
    """
    if steps < 1:
        raise InputError(f"A picture cannot be made in {steps} steps: take 1 or more.")
    times = torch.linspace(len(sigmas) - 1, 0, steps)
    below, above, share = times.floor().long(), times.ceil().long(), times.frac()
    logs = sigmas.log()
    return torch.cat([((1 - share) * logs[below] + share * logs[above]).exp(), torch.zeros(1)])


def timestep(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """The timestep whose sigma is nearest, by its logarithm: a number as a float tensor."""
    return (sigma.log().to(sigmas) - sigmas.log()).abs().argmin().float()


def progress(sigma: float, sigmas: Sequence[float]) -> float:
    """The share of the sampler's steps that are done at `sigma`, of its own descending `sigmas` (with the
    last, 0): between two of them, that of the higher one. So a window means the same for every scheduler."""
    steps = max(len(sigmas) - 1, 1)
    done = sum(1 for s in sigmas[1:steps] if s >= sigma * (1 - 1e-5))
    return done / steps


def denoised(x: Tensor, predicted: Tensor, sigma: Tensor, v_prediction: bool) -> Tensor:
    """The clean latents that a prediction of noise, or of v, at x = latents + sigma noise stands for."""
    if not v_prediction:
        return x - sigma * predicted
    return x / (sigma**2 + 1) - predicted * sigma / (sigma**2 + 1).sqrt()


def euler(
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sigmas: Tensor,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """Euler steps (Karras et al. 2022, algorithm 2 without churn) from unit noise [B, C, h, w] down `sigmas`.

    `denoise(x, sigma)`; `callback(step, steps, denoised latents)` after each.
    """
    steps = len(sigmas) - 1
    # At the model's last timestep the latents are not all noise: the variance there is 1 + sigma^2.
    x = noise * (1 + sigmas[0] ** 2).sqrt()
    for i in range(steps):
        clean = denoise(x, sigmas[i])
        x = x + (x - clean) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        if callback is not None:
            callback(i + 1, steps, clean)
    return x
