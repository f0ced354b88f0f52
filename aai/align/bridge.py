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

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import SUFFIXES, Sound, load
from ..errors import InputError
from ..files import is_file
from .bridge_map import Bridge, BridgeSettings, fit
from .clap import CLAPEncoder, CLAPText, restore_sound_tower, sound_tower_state
from .evaluate import Share, nearest_label
from .sound_words import LABELS, WAYS, unique
from .text import TextTower, label_vectors

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


class BridgedCLAP:
    """CLAP's sound tower and a bridge, as a SoundEncoder of a picture model's text space.

    A sound's windows are averaged in CLAP's space, then cross. It sees no pictures.
    """

    family = "clap-bridge"

    def __init__(
        self,
        clap: CLAPEncoder,
        bridge: Bridge,
        labels: list[str],
        label_vectors: Tensor,
        tau: float = 0.05,
        name: str = "CLAP",
        space: str = "",
        notes: Mapping[str, str] | None = None,
    ):
        self.clap, self.bridge = clap, bridge.eval().requires_grad_(False)
        self.labels, self.label_vectors = labels, F.normalize(label_vectors.float(), dim=-1)
        self.tau, self.name, self.space, self.notes = tau, name, space, dict(notes or {})
        self.rate, self.seconds, self.dim = clap.rate, clap.seconds, len(bridge.mean_y)

    def embed(self, sounds: list[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one, the only one they have
        here."""
        return self.bridge(self.clap.embed(sounds))

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What only this family's files hold: weights, and settings."""
        tower, settings = sound_tower_state(self.clap)
        weights = {f"clap.{k}": v for k, v in tower.items()}
        weights |= {f"bridge.{k}": v for k, v in self.bridge.state_dict().items()}
        hidden = 0 if self.bridge.mlp is None else self.bridge.mlp[0].out_features
        shape = {"d": self.clap.dim, "e": self.dim, "memory": len(self.bridge.memory), "hidden": hidden}
        return weights, {**settings, "bridge": json.dumps(shape)}

    @classmethod
    def restore(
        cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str, **common
    ) -> BridgedCLAP:
        """What `state` gave, as an encoder again; `common` is what every family's files hold."""
        tower = {k.removeprefix("clap."): v for k, v in weights.items() if k.startswith("clap.")}
        own = {k.removeprefix("bridge."): v for k, v in weights.items() if k.startswith("bridge.")}
        bridge = Bridge(**json.loads(settings["bridge"]))
        try:
            bridge.load_state_dict(own)
        except RuntimeError as error:
            raise InputError(f"“{file}” lacks a part of its bridge: save or download it again.") from error
        return cls(restore_sound_tower(tower, settings, file), bridge, **common)


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
        captions = clap_text.embed([way.format(label=label) for label in part for way in WAYS])
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
        raise InputError(f"“{folder}” holds no sounds: name a folder of wav, flac, ogg, mp3 or m4a files.")
    step = max(1.0, len(files) / most)
    return [load(files[int(i * step)], seconds=10.0) for i in range(min(most, len(files)))]
