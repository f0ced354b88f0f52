"""A bridge from CLAP's space to a picture model's text space, learned from words alone.

Both spaces embed words, so words are pairs that need no sound: x, CLAP's text embedding of a label in
captions of sounds ("this is a sound of rain"), and y, the picture model's of the label itself ("rain"). A
ridge regression from x to y is closed form; CLAP's sounds are mapped by it too.

Sounds and texts lie apart in CLAP, two clouds with a gap between them (Liang et al., NeurIPS 2022), so a
sound is moved into the cloud of texts first. With some sounds at hand their mean is subtracted and the
texts' mean added: the gap is nearly one constant vector. Without any, the sound becomes the mean of the
caption embeddings weighted by a sharp softmax of its cosines to them (the support memory of DeCap, Li et al.,
ICLR 2023; Kouzelis and Katsouros, 2023, try both on CLAP): a constant in all the cosines leaves no trace in
a softmax.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import SUFFIXES, Sound, load
from ..encoders.bridged_clap import Bridge, BridgedCLAP
from ..encoders.clap import CLAPEncoder, CLAPText
from ..encoders.text import TextTower, label_vectors
from ..errors import InputError
from ..files import is_file, walk
from ..metrics import Share, nearest_label
from ..ridge import ridge
from .labels import LABELS, TEMPLATES, unique

TAUS = torch.logspace(-3, math.log10(0.5), 28)
FEWEST_SOUNDS = 8


def fit(x: Tensor, y: Tensor) -> tuple[Bridge, Tensor, Tensor, float]:
    """The bridge from x [L, T, d] to y [L, e]; its predictions [L * T, e] for each label by a fit without
    that label, and the labels' indices [L * T]; lambda."""
    count, templates, d = x.shape
    fitted = ridge(x, y)
    bridge = Bridge(d, y.shape[1])
    for name in ("weight", "mean_x", "mean_y"):
        getattr(bridge, name).copy_(getattr(fitted, name))
    left_out = fitted.left_out - fitted.mean_y
    spread = (y - bridge.mean_y).square().sum(-1).mean().sqrt()
    bridge.stretch.fill_(spread / left_out.square().sum(-1).mean().sqrt().clamp(min=1e-8))
    truth = torch.arange(count).repeat_interleave(templates)
    return bridge, bridge.mean_y + bridge.stretch * left_out, truth, fitted.lam


# Out of inference mode, whatever the caller's: a bridge is an ordinary module.
@torch.inference_mode(False)
@torch.no_grad()
def fit_bridge(
    clap_text: CLAPText,
    tower: TextTower,
    labels: list[str] | None = None,
    sounds: Tensor | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[Bridge, list[str], Tensor, float, BridgeReport]:
    """Fits the map from CLAP's space to `tower`'s.

    labels: the words to fit it on (LABELS). sounds: CLAP's embeddings [S, d] of sounds of many kinds, whose
    mean closes the gap; without them the captions do. `callback(texts done, texts)` may raise to stop.
    Returns the bridge, the labels, their vectors [L, e], the temperature of their scores that fits left-out
    captions best, and the report. Raises InputError for fewer than 16 labels or FEWEST_SOUNDS sounds.
    """
    labels = unique(LABELS if labels is None else labels)
    if len(labels) < 16:
        raise InputError(f"{len(labels)} labels are too few to learn a map from: give at least 16.")
    if sounds is not None and len(sounds) < FEWEST_SOUNDS:
        raise InputError(
            f"{len(sounds)} sounds do not tell where CLAP's sounds lie: give at least {FEWEST_SOUNDS} of "
            "different kinds, or none."
        )
    total, done = len(labels) * (1 + len(TEMPLATES)), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if callback:
            callback(done, total)

    xs, ys = [], []
    for begin in range(0, len(labels), 32):
        part = labels[begin : begin + 32]
        ys.append(label_vectors(tower, part).float().cpu())
        advance(len(part))
        captions = clap_text.embed([template.format(label=label) for label in part for template in TEMPLATES])
        xs.append(captions.unflatten(0, (len(part), len(TEMPLATES))))
        advance(len(part) * len(TEMPLATES))
    x, y = torch.cat(xs).clone(), torch.cat(ys).clone()
    bridge, left_out, truth, lam = fit(x, y)
    if sounds is None:
        bridge.memory = x.flatten(0, 1).clone()
    else:
        bridge.mean_a.copy_(sounds.float().cpu().mean(0))
    report = BridgeReport(
        labels=len(labels),
        captions=len(labels) * len(TEMPLATES),
        sounds=0 if sounds is None else len(sounds),
        gap="memory" if sounds is None else "means",
        lam=lam,
        cosine=float(F.cosine_similarity(left_out - bridge.mean_y, y[truth] - bridge.mean_y, dim=-1).mean()),
        named=nearest_label(left_out, y, truth),
    )
    logits = F.normalize(left_out, dim=-1) @ y.T
    tau = min(TAUS.tolist(), key=lambda tau: float(F.cross_entropy(logits / tau, truth)))
    return bridge.eval().requires_grad_(False), labels, y, tau, report


def bridge_clap(
    clap: CLAPEncoder,
    clap_text: CLAPText,
    tower: TextTower,
    labels: list[str] | None = None,
    sounds: list[Sound] | None = None,
    callback: Callable[[int, int], None] | None = None,
    notes: Mapping[str, str] | None = None,
) -> tuple[BridgedCLAP, BridgeReport]:
    """A CLAP as a SoundEncoder of `tower`'s space, and the report. The arguments are `fit_bridge`'s, but that
    `sounds` are not embedded yet; `callback` counts these first. `notes` tell how it was made. CLAP and the
    towers stay as they are."""
    embeddings = None
    if sounds is not None:
        rows = [torch.zeros(0, clap.dim)]
        for done, sound in enumerate(sounds):
            rows.append(clap.embed([sound]))
            if callback:
                callback(done + 1, len(sounds))
        embeddings = torch.cat(rows)
    bridge, labels, vectors, tau, report = fit_bridge(clap_text, tower, labels, embeddings, callback)
    notes = {
        **clap.notes,
        **(notes or {}),
        "bridge_kind": "ridge",
        "bridge_gap": report.gap,
        "bridge_report": str(report),
    }
    # A tower's name may be its folder's path, which is private.
    space = Path(tower.name).name
    return BridgedCLAP(clap, bridge, labels, vectors, tau, clap.name, space, notes), report


def load_sounds(folder: str | os.PathLike, most: int = 40) -> list[Sound]:
    """Up to `most` sounds of a folder and all below it, evenly over their names, 10 s of each.

    Raises InputError for a folder without sounds, and one that cannot be read.
    """
    folder = Path(folder)
    paths = (Path(entry.path) for entry in walk(folder))
    files = sorted(path for path in paths if path.suffix.lower() in SUFFIXES and is_file(path))
    if not files:
        raise InputError(f"'{folder}' holds no sounds: name a folder of wav, flac, ogg, mp3 or m4a files.")
    step = max(1.0, len(files) / most)
    return [load(files[int(i * step)], seconds=10.0) for i in range(min(most, len(files)))]


@dataclass(frozen=True)
class BridgeReport:
    """What a bridge was fitted on, and how well it maps captions of labels that were left out: their `cosine`
    to their own label's vector, both less the labels' mean (0 is chance), and `named`, how many of them are
    nearest to it among all labels' vectors."""

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
