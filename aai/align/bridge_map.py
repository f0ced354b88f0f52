"""The map of a bridge: a ridge regression, a small network that may correct it, and how sounds enter it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

KINDS = ("ridge", "mlp")
MEMORY_TAU = 0.01
"""DeCap's temperature of the softmax over caption embeddings."""
LAMBDAS = torch.logspace(-6, 2, 25, dtype=torch.float64)
"""What leave-one-out chooses from, in units of the captions' mean variance along a direction."""


@dataclass(frozen=True)
class BridgeSettings:
    """`kind`: "ridge", closed form, or "mlp", which lets a small network correct it. The rest is the
    network's: its hidden width, steps, Adam's rate, and the noise on what it is shown, as a share of the
    captions' spread (C3, Zhang et al., ICLR 2024: noise stands for how sounds scatter about their words)."""

    kind: str = "ridge"
    hidden: int = 512
    steps: int = 300
    rate: float = 1e-3
    noise: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"There is no bridge “{self.kind}”: choose one of {', '.join(KINDS)}.")


@dataclass(frozen=True)
class Ridge:
    """y = mean_y + weight (x - mean_x), and each row's prediction by the fit that never saw its label."""

    weight: Tensor
    mean_x: Tensor
    mean_y: Tensor
    lam: float
    left_out: Tensor


class Bridge(nn.Module):
    """CLAP's sounds [B, d] to a text space [B, e], both of length one.

    With `memory` [N, d] a sound becomes the texts it is near to; else the clouds' means, `mean_a` and
    `mean_x`, change places.
    """

    def __init__(self, d: int, e: int, memory: int = 0, hidden: int = 0):
        super().__init__()
        for name, shape in (
            ("weight", (e, d)),
            ("mean_a", (d,)),
            ("mean_x", (d,)),
            ("mean_y", (e,)),
            ("memory", (memory, d)),
            # How far the map's answers are spread out about mean_y, so that they spread as the words do.
            ("stretch", ()),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.mlp = None
        if hidden:
            self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, e))
            nn.init.zeros_(self.mlp[-1].weight)
            nn.init.zeros_(self.mlp[-1].bias)

    def cross(self, x: Tensor) -> Tensor:
        """Texts [B, d] of CLAP, less their mean, to y less its mean, [B, e]."""
        y = x @ self.weight.T
        return y if self.mlp is None else y + self.mlp(x)

    @torch.no_grad()
    def texts(self, x: Tensor) -> Tensor:
        """CLAP's texts [B, d] to [B, e]."""
        return F.normalize(self.mean_y + self.stretch * self.cross(x - self.mean_x), dim=-1)

    @torch.no_grad()
    def forward(self, a: Tensor) -> Tensor:
        if not len(self.memory):
            return self.texts(a - self.mean_a + self.mean_x)
        near = (a @ self.memory.T / MEMORY_TAU).softmax(-1)
        return self.texts(F.normalize(near @ self.memory, dim=-1))


def ridge(x: Tensor, y: Tensor) -> Ridge:
    """The ridge regression from x [L, T, d] (T ways to say each of L labels) to y [L, e], both centred.

    lambda is the one whose left-out answers are best: a label is left out with all its T ways, and its answer
    is exact without fitting again (PRESS): with H the hat matrix, (I - H_gg)^-1 is what its rows' residuals
    grow by.
    """
    count, ways, _ = x.shape
    x, y = x.double().flatten(0, 1), y.double().repeat_interleave(ways, 0)
    mean_x, mean_y = x.mean(0), y.mean(0)
    u, s, v = torch.linalg.svd(x - mean_x, full_matrices=False)
    kept = s > s[0] * 1e-10
    u, s, v = u[:, kept], s[kept], v[kept]
    answers = u.T @ (y - mean_y)
    scale = (s**2).mean()
    best = None
    for lam in LAMBDAS:
        shrink = s**2 / (s**2 + lam * scale)
        residual = (y - mean_y - u @ (shrink[:, None] * answers)).unflatten(0, (count, ways))
        rows = u.unflatten(0, (count, ways))
        # The mean is part of the fit: 1/N in every entry of H.
        own = (rows * shrink) @ rows.transpose(1, 2) + 1 / len(x)
        grown = torch.linalg.solve(torch.eye(ways, dtype=x.dtype) - own, residual)
        error = float(grown.square().mean())
        if best is None or error < best[0]:
            best = error, float(lam), y - grown.flatten(0, 1)
    _, lam, left_out = best
    weight = (v.T * (s / (s**2 + lam * scale))) @ answers
    return Ridge(*(t.float() for t in (weight.T, mean_x, mean_y)), lam, left_out.float())


def fit(x: Tensor, y: Tensor, settings: BridgeSettings) -> tuple[Bridge, Tensor, Tensor, float]:
    """The bridge from x [L, T, d] to y [L, e]; answers [N, e] by a fit that never saw their labels, and these
    labels' numbers [N]; lambda."""
    count, ways, d = x.shape
    fitted = ridge(x, y)
    bridge = Bridge(d, y.shape[1], hidden=settings.hidden if settings.kind == "mlp" else 0)
    for name in ("weight", "mean_x", "mean_y"):
        getattr(bridge, name).copy_(getattr(fitted, name))
    truth = torch.arange(count).repeat_interleave(ways)
    answers = fitted.left_out - fitted.mean_y
    if settings.kind == "mlp":
        answers, truth = _train(bridge, x, y, settings)
    spread = (y - bridge.mean_y).square().sum(-1).mean().sqrt()
    bridge.stretch.fill_(spread / answers.square().sum(-1).mean().sqrt().clamp(min=1e-8))
    return bridge, bridge.mean_y + bridge.stretch * answers, truth, fitted.lam


def _train(bridge: Bridge, x: Tensor, y: Tensor, settings: BridgeSettings) -> tuple[Tensor, Tensor]:
    """Trains the network on nine labels of ten, keeps the weights that are best on the tenth, and returns
    their answers there, [N, e] less mean_y, with these labels' numbers [N]."""
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(x), generator=generator)
    kept, held = order[len(x) // 10 :], order[: max(len(x) // 10, 2)]
    # A fit without the held-out labels: its answers there are honest, and it is what the network corrects.
    part = ridge(x[kept], y[kept])
    for name in ("weight", "mean_x", "mean_y"):
        getattr(bridge, name).copy_(getattr(part, name))
    ways = x.shape[1]

    def rows(labels: Tensor) -> tuple[Tensor, Tensor]:
        return (x[labels].flatten(0, 1) - bridge.mean_x, y[labels].repeat_interleave(ways, 0) - bridge.mean_y)

    (shown, wanted), (test, truth) = rows(kept), rows(held)
    deviation = settings.noise * shown.square().mean().sqrt()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        nn.init.kaiming_uniform_(bridge.mlp[0].weight, a=math.sqrt(5))
        nn.init.zeros_(bridge.mlp[0].bias)
    optimizer = torch.optim.AdamW(bridge.mlp.parameters(), lr=settings.rate, weight_decay=0.02)
    best = float((bridge.cross(test) - truth).square().mean()), _copy(bridge.mlp)
    with torch.enable_grad():
        for step in range(settings.steps):
            pick = torch.randint(len(shown), (256,), generator=generator)
            noise = deviation * torch.randn(256, x.shape[2], generator=generator)
            loss = (bridge.cross(shown[pick] + noise) - wanted[pick]).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % 20 == 0:
                with torch.no_grad():
                    error = float((bridge.cross(test) - truth).square().mean())
                if error < best[0]:
                    best = error, _copy(bridge.mlp)
    bridge.mlp.load_state_dict(best[1])
    with torch.no_grad():
        return bridge.cross(test), held.repeat_interleave(ways)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}
