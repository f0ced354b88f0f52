"""Directional textual inversion (Kim et al. 2026, arXiv 2512.13672): a word trained in its direction alone.

A word keeps the length of the model's own words, since a longer one would shout them down. What is left is a
point on a sphere, where it moves by steepest descent: the gradient is made tangent to the sphere, brought to
length one, and followed by an angle. A von Mises-Fisher prior around mu adds -kappa mu to the gradient of the
loss; with mu = f_a, the direction in which the sound enters, it is eq. 6 with a prior that the word means the
sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class DirectionalDescent(torch.optim.Optimizer):
    """Descent over words e = f_a + f_adapter [n, d] of a fixed length, whose parameters are the f_adapter.

    A group holds `params`, `lr` (the angle of a step, in radians), `sound` (f_a as it enters, [d]) and
    `length`. kappa weighs the prior, in the gradient of the loss by the unit vector.
    """

    def __init__(self, groups: Iterable[dict], kappa: float):
        super().__init__(groups, {"lr": 0.0, "kappa": kappa})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Turns each word whose gradient is known; a word whose gradient is 0 stays."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            sound, length = group["sound"], group["length"]
            mu = sound / sound.norm().clamp(min=1e-12)
            for rows in group["params"]:
                if rows.grad is None:
                    continue
                u = (sound + rows) / (sound + rows).norm(dim=1, keepdim=True).clamp(min=1e-12)
                turned = _turned(u, length * rows.grad - group["kappa"] * mu, group["lr"])
                rows.copy_(length * turned - sound)
        return loss


def _turned(u: Tensor, gradient: Tensor, angle: float) -> Tensor:
    """Unit vectors [n, d] turned by an angle against the tangent part of a gradient."""
    tangent = gradient - (gradient * u).sum(dim=1, keepdim=True) * u
    size = tangent.norm(dim=1, keepdim=True)
    tangent = tangent / torch.where(size > 0, size, torch.ones_like(size))
    moved = u - angle * tangent
    return moved / moved.norm(dim=1, keepdim=True)
