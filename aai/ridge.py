"""Ridge regression, its strength chosen by leave-one-out in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LAMBDAS = torch.logspace(-6, 2, 25, dtype=torch.float64)
"""The strengths that leave-one-out chooses from, in units of x's mean variance along a direction."""


@dataclass(frozen=True)
class Ridge:
    """y = mean_y + weight (x - mean_x), and each row's prediction by the fit that never saw its label."""

    weight: Tensor
    mean_x: Tensor
    mean_y: Tensor
    lam: float
    left_out: Tensor


def ridge(x: Tensor, y: Tensor, strongest: float = math.inf) -> Ridge:
    """The ridge regression from x [L, T, d] (T phrases for each of L labels) to y [L, e], both centred.

    lambda is the one, up to `strongest`, with the smallest leave-one-out error. A label is left out with
    all its T phrases, and its prediction is exact without fitting again (PRESS): with H the hat matrix, its
    rows' residuals grow by (I - H_gg)^-1.
    """
    count, phrases, _ = x.shape
    x, y = x.double().flatten(0, 1), y.double().repeat_interleave(phrases, 0)
    mean_x, mean_y = x.mean(0), y.mean(0)
    u, s, v = torch.linalg.svd(x - mean_x, full_matrices=False)
    kept = s > s[0] * 1e-10
    u, s, v = u[:, kept], s[kept], v[kept]
    answers = u.T @ (y - mean_y)
    scale = (s**2).mean()
    best = None
    for lam in LAMBDAS[LAMBDAS <= strongest]:
        shrink = s**2 / (s**2 + lam * scale)
        residual = (y - mean_y - u @ (shrink[:, None] * answers)).unflatten(0, (count, phrases))
        rows = u.unflatten(0, (count, phrases))
        # The mean is part of the fit: 1/N in every entry of H.
        own = (rows * shrink) @ rows.transpose(1, 2) + 1 / len(x)
        grown = torch.linalg.solve(torch.eye(phrases, dtype=x.dtype) - own, residual)
        error = float(grown.square().mean())
        if best is None or error < best[0]:
            best = error, float(lam), y - grown.flatten(0, 1)
    _, lam, left_out = best
    weight = (v.T * (s / (s**2 + lam * scale))) @ answers
    return Ridge(*(t.float() for t in (weight.T, mean_x, mean_y)), lam, left_out.float())
