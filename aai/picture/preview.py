"""A quick picture of what a model draws, to show between training steps."""

from __future__ import annotations

import torch
from torch import Tensor

from . import schedule
from .model import Conditioning, PictureModel


@torch.no_grad()
def preview(
    model: PictureModel,
    cond: Conditioning,
    uncond: Conditioning,
    like: Tensor,
    *,
    seed: int = 0,
    steps: int = 12,
    guidance: float = 5.0,
) -> Tensor:
    """One latent [1, C, h, w] of the size of `like` [_, C, h, w], by Euler over `steps` whole timesteps.

    Nothing is loaded, moved or patched for it, so that it may be called within a training run. Raises
    InputError for less than one step.
    """
    known = model.sigmas.float().cpu()
    sigmas = schedule.normal(known, steps)
    # Whole timesteps, which every model knows.
    times = [int(schedule.timestep(s, known)) for s in sigmas[:-1]]
    sigmas = torch.cat([known[times], sigmas[-1:]])

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        t = schedule.timestep(sigma, known).long()[None]
        scaled = (x / (1 + sigma**2).sqrt()).to(model.device)
        noise = model.predict_noise(scaled, t, cond).float().to(x)
        if guidance != 1:
            plain = model.predict_noise(scaled, t, uncond).float().to(x)
            noise = plain + guidance * (noise - plain)
        return x - sigma * noise

    noise = torch.randn(1, *like.shape[1:], generator=torch.Generator().manual_seed(seed))
    return schedule.euler(denoise, schedule.noisiest(noise, sigmas[0]), sigmas).to(like)
