"""Noise schedules and Euler sampling: of diffusion models in sigma = noise / signal (Karras et al. 2022), of
flows in s = the share of noise (Esser et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

TIMESTEPS = 1000
"""Of a flow, whose times are counted like a diffusion model's: t stands for a share of (t + 0.5) / 1000."""


def alphas_cumprod(config: Mapping[str, object]) -> Tensor:
    """The signal's share of the variance at each timestep [T], from a diffusers scheduler's configuration.

    Raises InputError for a schedule that betas do not make.
    """
    check_betas(config)
    from diffusers import DDPMScheduler

    values = DDPMScheduler.from_config(dict(config)).alphas_cumprod
    # A schedule that ends in pure noise has no finite last sigma; this is the value that ComfyUI gives it.
    return values.clamp(min=4.8973451890853435e-08)


def check_betas(config: Mapping[str, object]) -> None:
    """Raises InputError for a diffusers scheduler's configuration that is not of noise added by betas, at
    whole timesteps: EDM's, a flow's, or one that does not say its betas."""
    name = str(config.get("_class_name", "a scheduler"))
    betas = config.get("trained_betas") is not None or {"beta_start", "beta_end"} <= set(config)
    others = "sigma_data" in config or config.get("use_flow_sigmas") or name.startswith(("EDM", "FlowMatch"))
    if others or not betas or config.get("timestep_type", "discrete") != "discrete":
        raise InputError(
            f"The noise schedule of this model ({name}) is not made of betas, as Stable Diffusion's is: load "
            "another model, or use this one in ComfyUI."
        )


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
    check_steps(steps)
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


@dataclass(frozen=True)
class Flow:
    """The times s of a rectified flow, x = (1 - s) x0 + s n: a share u of all times is spent below
    s = shift u / (1 + (shift - 1) u) (Esser et al. 2024, eq. 23). `count` is how finely `simple` counts."""

    shift: float = 1.0
    count: int = 1000

    def at(self, share: Tensor) -> Tensor:
        """s below which a share [...] in [0, 1] of all times lies."""
        return self.shift * share / (1 + (self.shift - 1) * share)

    def times(self, t: Tensor) -> Tensor:
        """s [B], float32, at timesteps t [B] (0..999)."""
        return self.at((t.cpu().double() + 0.5) / TIMESTEPS).float().to(t.device)

    def simple(self, steps: int) -> Tensor:
        """`steps` times at even shares, from 1 on, and a 0: [steps + 1], as ComfyUI's schedule of this name.

        Raises InputError for less than one step.
        """
        check_steps(steps)
        # Whole parts of the count, as in ComfyUI's tables: 1000 times, 10000 for Flux.
        places = [self.count - int(i * (self.count / steps)) for i in range(steps)]
        return torch.cat([self.at(torch.tensor(places) / self.count), torch.zeros(1)])


def flow_of(config: Mapping[str, object]) -> Flow:
    """The flow of a diffusers scheduler's configuration. Where the shift follows the picture's size it is
    that of the largest ones, as in ComfyUI.

    Raises InputError where it is not a number that a flow can have.
    """
    try:
        if not config.get("use_dynamic_shifting"):
            flow = Flow(float(config.get("shift", 1.0)))
        elif config.get("time_shift_type", "exponential") == "exponential":
            flow = Flow(math.exp(float(config.get("max_shift", 1.15))), 10000)
        else:
            flow = Flow(float(config.get("max_shift", 1.15)), 10000)
    except (TypeError, ValueError, OverflowError):
        flow = Flow(math.nan)
    if not 0 < flow.shift < math.inf:
        raise InputError("The scheduler's shift is no number above 0: download scheduler_config.json again.")
    return flow


def check_steps(steps: int) -> None:
    """Raises InputError for less than one step."""
    if steps < 1:
        raise InputError(f"A picture cannot be made in {steps} steps: take 1 or more.")


def noisiest(noise: Tensor, sigma: Tensor) -> Tensor:
    """What a diffusion model begins with at its last timestep, of unit noise [B, C, h, w]: the latents are
    not all noise there, and the variance is 1 + sigma^2."""
    return noise * (1 + sigma**2).sqrt()


def euler(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigmas: Tensor,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """Euler steps (Karras et al. 2022, algorithm 2 without churn) from noisy latents x [B, C, h, w] down
    `sigmas`, or a flow's times.

    `denoise(x, sigma)`; `callback(step, steps, denoised latents)` after each.
    """
    steps = len(sigmas) - 1
    for i in range(steps):
        clean = denoise(x, sigmas[i])
        x = x + (x - clean) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        if callback is not None:
            callback(i + 1, steps, clean)
    return x
