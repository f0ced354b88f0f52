"""Trains the network of SoundWorld's decoder, which cleans decoded pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...picture.schedule import alphas_cumprod
from ..models import SCHEDULER_CONFIG, PatchAutoencoder

LATEST_TIMESTEP = 250
"""From this timestep down a sampler only adds details."""


def refine_autoencoder(
    autoencoder: PatchAutoencoder,
    pictures: Tensor,
    unet: nn.Module,
    states: Tensor,
    *,
    steps: int = 900,
    batch: int = 16,
    rate: float = 2e-3,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> float:
    """Trains the network that cleans decoded pictures (uint8 [N, 3, H, W]); returns how much of the error it
    takes away.

    It is trained on what it will be given: latents that the U-Net predicts from noisy ones and one of the
    picture's captions (states [N, K, 77, D]), with no more noise than in a sampler's last quarter.
    """
    torch.manual_seed(seed)
    parameters = [p for name, p in autoencoder.named_parameters() if name.startswith("refine")]
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    alphas = alphas_cumprod(SCHEDULER_CONFIG).float()
    before = after = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 30) * max(0.02, 1 - step / steps)
        rows = torch.randint(len(pictures), (batch,))
        picture = pictures[rows].float() / 127.5 - 1
        context = states[rows, torch.randint(states.shape[1], (batch,))].float()
        with torch.no_grad():
            latents = _predicted_clean(unet, autoencoder.encode(picture), context, alphas)
            plain = autoencoder.decode(latents, refine=False)
        loss = (autoencoder.decode(latents) - picture).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= steps - 20:
            before, after = before + (plain - picture).abs().mean().item(), after + loss.item()
        if report:
            report(step, loss.item())
    autoencoder.eval().requires_grad_(False)
    return 1 - after / before


def _predicted_clean(unet: nn.Module, latents: Tensor, context: Tensor, alphas: Tensor) -> Tensor:
    """A U-Net's (v-prediction) clean latents from noisy ones, each at a random timestep."""
    t = torch.randint(LATEST_TIMESTEP, (len(latents),))
    signal, spread = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
    noisy = signal * latents + spread * torch.randn_like(latents)
    return signal * noisy - spread * unet(noisy, t, context).sample
