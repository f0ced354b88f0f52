"""The universal adapter: f_adapter = g(f_a), one network that makes every sound a word of a picture model.

Eq. 6 trains f_adapter for one sound. Here g is trained by the same loss over a library of sounds, so that a
new sound's word costs no training: two layers of WIDTH, and a head for each of the model's text encoders. It
begins at f_adapter = 0, and is held within the radius that a trained token has. A network that maps an
encoder's embedding to a word of textual inversion is E4T's idea (Gal et al. 2023, arXiv 2302.12228), there to
begin a training from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.base import SoundEmbedding
from ..errors import InputError, encodable
from ..picture.model import PictureModel
from ..token import SoundToken, Translation, word_vectors
from .base import base_of, is_named

WIDTH = 256
WITHOUT = "aai token, or the node Train Sound Token, makes a word without one"


class Adapter(nn.Module):
    """g: sounds f_a [B, dim] of any length to {text encoder: f_adapter [B, vectors, width]}.

    lengths: per text encoder the length s that f_a enters its words with. rho: |f_adapter| is kept within
    rho times that; None sets no bound. `mean` [dim] and `spread` are those of the sounds' directions, which
    lie in a narrow cone.
    """

    def __init__(
        self,
        dim: int,
        widths: Mapping[str, int],
        lengths: Mapping[str, float],
        rho: float | None,
        vectors: int,
    ):
        super().__init__()
        self.lengths, self.rho, self.vectors = dict(lengths), rho, vectors
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(()))
        self.layers = nn.ModuleList([nn.Linear(dim, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.heads = nn.ModuleDict({key: nn.Linear(WIDTH, vectors * width) for key, width in widths.items()})

    @torch.no_grad()
    def begin(self, f_a: Tensor, seed: int) -> None:
        """Sets the beginning: the sounds' [N, dim] mean and spread, random layers, and heads of 0."""
        directions = F.normalize(f_a.float(), dim=-1)
        self.mean.copy_(directions.mean(0))
        self.spread.copy_((directions - self.mean).square().mean().sqrt().clamp(min=1e-6))
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            size = layer.weight.shape
            layer.weight.copy_(torch.randn(size, generator=generator) * (2 / size[1]) ** 0.5)
            layer.bias.zero_()
        for head in self.heads.values():
            head.weight.zero_()
            head.bias.zero_()

    def forward(self, f_a: Tensor) -> dict[str, Tensor]:
        x = (F.normalize(f_a, dim=-1) - self.mean) / self.spread
        for layer in self.layers:
            x = F.gelu(layer(x))
        return {key: self._within(key, head(x)) for key, head in self.heads.items()}

    def _within(self, key: str, made: Tensor) -> Tensor:
        rows = made.unflatten(-1, (self.vectors, -1))
        # A head's numbers are of the size of a layer's, whatever the size of the text encoder's.
        rows = rows * (self.lengths[key] / rows.shape[-1] ** 0.5)
        if self.rho is None:
            return rows
        radius = self.rho * self.lengths[key]
        return rows * (radius / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


@dataclass(frozen=True, eq=False)
class SoundAdapter:
    """A universal adapter with what it needs to make words, and where it comes from.

    encoder, encoder_name: the sound encoder's fingerprint and name. model, base: the picture model's
    fingerprint, and its family's name. translation: per text encoder that f_a was not aligned with, the map
    by which it enters. data: what it was trained on, in words. steps: how many are behind it. settings: of
    the training. training: its state, to resume it, and `losses` its curve.
    """

    g: Adapter
    encoder: str
    encoder_name: str
    model: str
    base: str
    data: str
    steps: int = 0
    name: str = "adapter"
    translation: dict[str, Translation] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    training: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    @property
    def dim(self) -> int:
        """How many numbers a sound has."""
        return len(self.g.mean)

    @property
    def widths(self) -> dict[str, int]:
        """The width of each text encoder's words."""
        return {key: head.out_features // self.g.vectors for key, head in self.g.heads.items()}

    def check(self, sound: SoundEmbedding, model: PictureModel) -> None:
        """Raises InputError for a sound that another encoder heard, or a picture model of another family.

        A fine-tuned or quantised model of the family reads the same words. A model whose family has no name
        must be the very one.
        """
        if sound.fingerprint != self.encoder or len(sound.f_a) != self.dim:
            raise InputError(
                f"The sound adapter '{self.name}' was trained with the sound encoder '{self.encoder_name}', "
                f"and another one ('{sound.encoder}') heard this sound: hear it with that one, or train an "
                "adapter with this."
            )
        base = base_of(model)
        fits = base == self.base and dict(model.widths) == self.widths
        # Not before: quantised weights may be of a kind that has no numbers to tell.
        if not fits or not (is_named(model) or model.fingerprint == self.model):
            raise InputError(
                f"The sound adapter '{self.name}' was trained for another picture model ({self.base}) than "
                f"this ({base}): use that one, or train an adapter for this; {WITHOUT}."
            )

    @torch.no_grad()
    def token(
        self,
        f_a: Tensor,
        name: str = "sound",
        loudness: float | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> SoundToken:
        """A sound's word [dim], at once: an ordinary token, from which a training can start."""
        f_a = f_a.detach().float().cpu().clone()
        f_adapter = {key: rows[0].clone() for key, rows in self.g(f_a[None]).items()}
        vectors = {
            key: word_vectors(self.entering(key, f_a), self.g.lengths[key], rows)
            for key, rows in f_adapter.items()
        }
        facts = {
            "base": self.base,
            **{key: value for key, value in self.provenance.items() if key == "licence"},
            **(provenance or {}),
            "adapter": f"{self.name}, {self.steps} steps on {self.data}",
            "steps": "0",
        }
        lengths, translation = dict(self.g.lengths), dict(self.translation)
        return SoundToken(name, vectors, f_a, f_adapter, lengths, loudness, facts, translation)

    def entering(self, key: str, f_a: Tensor) -> Tensor:
        """A sound f_a [dim] in the space of a text encoder's words."""
        translate = self.translation.get(key)
        return f_a if translate is None else translate(f_a)

    def describe(self) -> str:
        """What it is and where it comes from, a line for each entry."""
        lines = [
            f"name: {self.name}",
            f"picture model: {self.base}",
            f"sound encoder: {self.encoder_name}",
            f"data: {self.data}",
            f"steps: {self.steps}",
            f"words: {', '.join(f'{k} {self.g.vectors} x {v}' for k, v in self.widths.items())}",
        ]
        if self.losses:
            recent = self.losses[-50:]
            lines.append(f"loss: {sum(recent) / len(recent):.4f}")
        lines += [f"{key.replace('_', ' ')}: {value}" for key, value in self.provenance.items()]
        return "\n".join(map(encodable, lines))


def unknown(sound: SoundEmbedding) -> str:
    """What to say of a sound that its encoder has no word for; "" where it has, or cannot tell."""
    if sound.is_known is not False:
        return ""
    return (
        f"The encoder does not know '{sound.sound}' (unknown by {1 - sound.known:.0%}): the picture may show "
        "what it is most like, or nothing clear."
    )
