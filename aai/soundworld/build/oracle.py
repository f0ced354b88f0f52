"""How the oracle is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ...optim import set_rate
from ..oracle import Oracle
from ..world import EVENTS


def soften(images: Tensor) -> Tensor:
    """A random blur, brightness and noise for the whole batch [B, 3, H, W] in [0, 1]."""
    if torch.rand(()) < 0.7:
        size = int(torch.randint(48, 112, ()))
        images = F.interpolate(F.interpolate(images, size, mode="area"), images.shape[-1], mode="bilinear")
    images = images * (1 + 0.1 * torch.randn(len(images), 3, 1, 1)) + 0.04 * torch.randn(len(images), 3, 1, 1)
    return (images + 0.05 * torch.rand(()) * torch.randn_like(images)).clamp(0, 1)


def train_oracle(
    pictures: Tensor,
    masks: Tensor,
    events: Tensor,
    scenes: Tensor,
    intensities: Tensor,
    *,
    steps: int = 450,
    batch: int = 48,
    rate: float = 2e-3,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Oracle:
    """uint8 pictures [N, 3, 128, 128], bool masks [N, 64, 64], class numbers [N] (calm: 10), intensities
    [N]."""
    torch.manual_seed(seed)
    oracle = Oracle()
    optimizer = torch.optim.AdamW(oracle.parameters(), lr=rate, weight_decay=0.02)
    for step in range(steps):
        set_rate(optimizer, rate, step, steps, warmup=50)
        rows = torch.randint(len(pictures), (batch,))
        event, scene, intensity, mask = oracle(soften(pictures[rows].float() / 255))
        there = (events[rows] < len(EVENTS)).float()
        loss = (
            F.cross_entropy(event, events[rows])
            + 0.5 * F.cross_entropy(scene, scenes[rows])
            + 10 * ((intensity - intensities[rows]).square() * there).mean()
            + F.binary_cross_entropy_with_logits(mask, masks[rows].float())
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if report:
            report(step, loss.item())
    return oracle.eval().requires_grad_(False)
