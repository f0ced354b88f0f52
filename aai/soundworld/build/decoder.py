"""Trains the network of SoundWorld's decoder, which cleans decoded pictures.

It learns from what it will be given: latents that the denoisers predict from noisy ones, with no more noise
than in a sampler's last quarter. Besides each pixel, each step from a pixel to the next is to be the
picture's, since errors of neighbouring patches meet in a grid that is small in pixels and plain to the eye.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ...picture.packing import unpacked
from ...picture.schedule import alphas_cumprod
from ..models import PATCH, SCHEDULER_CONFIG, PatchAutoencoder
from .denoiser import velocity

LATEST_TIMESTEP, LATEST_TIME = 250, 0.25
"""From here down a sampler only adds details."""

Guess = Callable[[Tensor, Tensor], Tensor]
"""(latents [B, C, h, w], context [B, 77, D]): what a denoiser takes the latents for once they are noisy."""


def refine_autoencoder(
    autoencoder: PatchAutoencoder,
    pictures: Tensor,
    guesses: Sequence[Guess],
    states: Tensor,
    *,
    steps: int = 2000,
    batch: int = 16,
    rate: float = 1.5e-3,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> float:
    """Trains the network that cleans decoded pictures (uint8 [N, 3, H, W]), on the denoisers' guesses in
    turn, by one of a picture's captions (states [N, K, 77, D]); returns how much of the error it takes
    away."""
    torch.manual_seed(seed)
    parameters = [p for name, p in autoencoder.named_parameters() if name.startswith("refine")]
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    before = after = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 30) * max(0.02, 1 - step / steps)
        rows = torch.randint(len(pictures), (batch,))
        picture = pictures[rows].float() / 127.5 - 1
        context = states[rows, torch.randint(states.shape[1], (batch,))].float()
        with torch.no_grad():
            latents = guesses[step % len(guesses)](autoencoder.encode(picture), context)
            plain = autoencoder.decode(latents, refine=False)
        loss = _error(autoencoder.decode(latents), picture)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step >= steps - 20:
            before, after = before + _error(plain, picture).item(), after + loss.item()
        if report:
            report(step, loss.item())
    autoencoder.eval().requires_grad_(False)
    return 1 - after / before


def unet_guess(unet: nn.Module) -> Guess:
    """A U-Net's (v-prediction)."""
    alphas = alphas_cumprod(SCHEDULER_CONFIG).float()

    def guess(latents: Tensor, context: Tensor) -> Tensor:
        t = torch.randint(LATEST_TIMESTEP, (len(latents),))
        signal, spread = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        noisy = signal * latents + spread * torch.randn_like(latents)
        return signal * noisy - spread * unet(noisy, t, context).sample

    return guess


def flow_guess(transformer: nn.Module) -> Guess:
    """A flow transformer's."""

    def guess(latents: Tensor, context: Tensor) -> Tensor:
        time = LATEST_TIME * torch.rand(len(latents))
        s = time[:, None, None, None]
        noisy = s * torch.randn_like(latents) + (1 - s) * latents
        v = velocity(transformer, noisy, time, context)
        return noisy - s * unpacked(v, *latents.shape[2:])

    return guess


def _error(made: Tensor, picture: Tensor) -> Tensor:
    total = (made - picture).abs().mean()
    for dim in (2, 3):
        steps = (made.diff(dim=dim) - picture.diff(dim=dim)).abs().movedim(dim, -1)
        # Those across the patches' edges twice: they are few, and the grid.
        total = total + steps.mean() + steps[..., PATCH - 1 :: PATCH].mean()
    return total
