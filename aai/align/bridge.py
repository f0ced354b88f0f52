"""A bridge from CLAP's space to a picture model's text space, learned from words alone.

Both spaces know words, so words are the pairs that no sound is needed for: x, what CLAP's text tower makes
of a label as sounds are spoken of ("this is a sound of rain"), and y, what the picture model's makes of the
label itself ("rain"). A ridge regression from x to y is closed form; CLAP's sounds cross by the same map.

Sounds and texts lie apart in CLAP, two clouds with a gap between them (Liang et al., NeurIPS 2022), so a
sound is brought into the cloud of texts first. With some sounds at hand their mean is taken away and the
texts' mean added: the gap is nearly one constant vector. Without any, the sound becomes the mean of the
caption embeddings weighted by a sharp softmax of its cosines to them (the support memory of DeCap, Li et al.,
ICLR 2023; Kouzelis and Katsouros, 2023, try both on CLAP): a constant in all the cosines leaves no trace in
a softmax.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import SUFFIXES, Sound, load
from ..encoders.bridged_clap import Bridge, BridgedCLAP
from ..encoders.clap import CLAPEncoder, CLAPText
from ..encoders.text import TextTower, label_vectors
from ..errors import InputError
from ..files import is_file
from ..metrics import Share, nearest_label
from ..ridge import ridge
from .labels import LABELS, WAYS, unique

KINDS = ("ridge", "mlp")


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
            raise InputError(f"There is no bridge '{self.kind}': choose one of {', '.join(KINDS)}.")


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


TAUS = torch.logspace(-3, math.log10(0.5), 28)
FEWEST_SOUNDS = 8
RIDGE = BridgeSettings()


@dataclass(frozen=True)
class BridgeReport:
    """How well captions cross that the map was not fitted on: `cosine` to their own label's vector, both less
    the labels' mean (0 is chance), and `named`, how many are nearest to it of all labels' vectors."""

    labels: int
    captions: int
    sounds: int
    gap: str
    lam: float
    cosine: float
    named: Share

    def __str__(self) -> str:
        closed = f"the means of {self.sounds} sounds" if self.sounds else "the captions that a sound is near"
        return (
            f"{self.labels} labels; the gap is closed by {closed}; labels that were left out: cosine "
            f"{self.cosine:.2f}, named right {self.named}"
        )


# Not in inference mode, where a node runs: a bridge is an ordinary module, and its network is trained.
@torch.inference_mode(False)
@torch.no_grad()
def fit_bridge(
    clap_text: CLAPText,
    tower: TextTower,
    labels: list[str] | None = None,
    sounds: Tensor | None = None,
    settings: BridgeSettings = RIDGE,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[Bridge, list[str], Tensor, float, BridgeReport]:
    """Learns the map from CLAP's space to `tower`'s.

    labels: what is said (LABELS). sounds: CLAP's embeddings [S, d] of some sounds of many kinds, which tell
    where its sounds lie; without them the gap is closed by the captions alone. `callback(texts done, texts)`
    may raise to stop. Returns the bridge, the labels, their vectors [L, e] and the temperature of their
    scores as left-out captions would have it, and how well it crosses. Raises InputError for fewer than 16
    labels or FEWEST_SOUNDS sounds.
    """
    labels = unique(LABELS if labels is None else labels)
    if len(labels) < 16:
        raise InputError(f"{len(labels)} labels are too few to learn a map from: give at least 16.")
    if sounds is not None and len(sounds) < FEWEST_SOUNDS:
        raise InputError(
            f"{len(sounds)} sounds do not tell where CLAP's sounds lie: give at least {FEWEST_SOUNDS} of "
            "different kinds, or none."
        )
    total, done = len(labels) * (1 + len(WAYS)), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if callback:
            callback(done, total)

    said, meant = [], []
    for begin in range(0, len(labels), 32):
        part = labels[begin : begin + 32]
        meant.append(label_vectors(tower, part).float().cpu())
        tell(len(part))
        captions = clap_text.embed([template.format(label=label) for label in part for template in WAYS])
        said.append(captions.unflatten(0, (len(part), len(WAYS))))
        tell(len(part) * len(WAYS))
    x, y = torch.cat(said).clone(), torch.cat(meant).clone()
    bridge, left_out, truth, lam = fit(x, y, settings)
    if sounds is None:
        bridge.memory = x.flatten(0, 1).clone()
    else:
        bridge.mean_a.copy_(sounds.float().cpu().mean(0))
    figures = BridgeReport(
        labels=len(labels),
        captions=len(labels) * len(WAYS),
        sounds=0 if sounds is None else len(sounds),
        gap="memory" if sounds is None else "means",
        lam=lam,
        cosine=float(F.cosine_similarity(left_out - bridge.mean_y, y[truth] - bridge.mean_y, dim=-1).mean()),
        named=nearest_label(left_out, y, truth),
    )
    logits = F.normalize(left_out, dim=-1) @ y.T
    tau = min(TAUS.tolist(), key=lambda tau: float(F.cross_entropy(logits / tau, truth)))
    return bridge.eval().requires_grad_(False), labels, y, tau, figures


def bridge_clap(
    clap: CLAPEncoder,
    clap_text: CLAPText,
    tower: TextTower,
    labels: list[str] | None = None,
    sounds: list[Sound] | None = None,
    settings: BridgeSettings = RIDGE,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[BridgedCLAP, BridgeReport]:
    """A CLAP as a SoundEncoder of `tower`'s space, and how well words cross; the arguments are fit_bridge's,
    with `sounds` as they are; `callback` counts these first. Nothing of the three is changed."""
    heard = None
    if sounds is not None:
        rows = [torch.zeros(0, clap.dim)]
        for done, sound in enumerate(sounds):
            rows.append(clap.embed([sound]))
            if callback:
                callback(done + 1, len(sounds))
        heard = torch.cat(rows)
    bridge, labels, vectors, tau, report = fit_bridge(clap_text, tower, labels, heard, settings, callback)
    notes = {
        **clap.notes,
        "made_by": "aai align bridge",
        "bridge_kind": settings.kind,
        "bridge_gap": report.gap,
        "bridge_report": str(report),
    }
    # A tower may be called by its folder's path, which is nobody's business.
    space = Path(tower.name).name
    return BridgedCLAP(clap, bridge, labels, vectors, tau, clap.name, space, notes), report


def load_sounds(folder: str | os.PathLike, most: int = 40) -> list[Sound]:
    """Up to `most` sounds of a folder and all below it, evenly over their names, 10 s of each.

    Raises InputError for a folder without sounds, and one that cannot be read.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and is_file(p))
    if not files:
        raise InputError(f"'{folder}' holds no sounds: name a folder of wav, flac, ogg, mp3 or m4a files.")
    step = max(1.0, len(files) / most)
    return [load(files[int(i * step)], seconds=10.0) for i in range(min(most, len(files)))]
