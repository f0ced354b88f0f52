"""What a picture model offers, whatever runs it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..prompt import Prompt, TokenIds, token_positions
from .control import Control

Vectors = Mapping[str, Mapping[str, Tensor]]
"""{token name: {text encoder: [n, d]}}"""


@dataclass(frozen=True)
class TextEncoderInfo:
    """A text encoder's word embeddings: their width, their mean length, and the spread of their numbers."""

    dim: int
    mean_norm: float
    std: float


def vocabulary_statistics(
    embedding: Callable[[Tensor], Tensor], count: int, device: torch.device
) -> TextEncoderInfo:
    """The statistics of a vocabulary of `count` words, read through the embedding itself: a table may be
    kept quantised. Raises InputError where they are not finite."""
    lengths, total, squares, size = [], 0.0, 0.0, 0
    with torch.no_grad():
        for ids in torch.arange(count, device=device).split(4096):
            # Not every device knows float64.
            rows = embedding(ids).detach().float().cpu()
            lengths.append(rows.norm(dim=1))
            total, squares = total + float(rows.double().sum()), squares + float(rows.double().square().sum())
            size += rows.numel()
    info = TextEncoderInfo(
        rows.shape[1],
        float(torch.cat(lengths).mean()),
        max((squares - total**2 / size) / max(size - 1, 1), 0.0) ** 0.5,
    )
    if not 0 < info.mean_norm < math.inf:
        raise InputError(
            "The text encoder's word embeddings cannot be read as numbers: load it in float16, bfloat16, "
            "float8 or float32."
        )
    return info


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts: cross [B, L, D] for cross-attention, pooled [B, P] where the family has it (SDXL), and
    the token ids of each row, which L repeats where a longer prompt stands beside it. `extra` is what else a
    family reads of a prompt (masks, another encoder's rows), under its own names."""

    cross: Tensor
    pooled: Tensor | None = None
    token_ids: tuple[TokenIds, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def floats(self) -> list[Tensor]:
        """All that a gradient can pass."""
        values = (self.cross, self.pooled, *self.extra.values())
        return [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]

    def leaves(self) -> Conditioning:
        """The same, cut off from what it was made from, with `floats` that take gradients."""

        def leaf(value):
            if not isinstance(value, Tensor):
                return value
            return value.detach().requires_grad_(value.is_floating_point())

        extra = {key: leaf(value) for key, value in self.extra.items()}
        return Conditioning(leaf(self.cross), leaf(self.pooled), self.token_ids, extra)

    @property
    def positions(self) -> dict[str, list[int]]:
        """{token name: its positions} in the first row."""
        return token_positions(self.token_ids[0])


def stacked(rows: Sequence[Conditioning], pooled: int | None = 0) -> Conditioning:
    """Conditionings of one row each as one of all their rows, the shorter repeated to the longer's length, as
    ComfyUI does. `pooled` names the row whose pooled embedding every row takes; None leaves each its own."""
    length = math.lcm(*(row.cross.shape[1] for row in rows))
    cross = torch.cat([row.cross.repeat(1, length // row.cross.shape[1], 1) for row in rows])
    shared = None
    if rows[0].pooled is not None:
        shared = torch.cat([(row if pooled is None else rows[pooled]).pooled for row in rows])
    return Conditioning(cross, shared, tuple(r for row in rows for r in row.token_ids))


def padded(rows: Sequence[Conditioning], pooled: int | None = 0, left: bool = False) -> Conditioning:
    """Conditionings of one row each as one of all their rows, the shorter with zeros behind, or in front
    where texts end together (`left`): for transformers, where a place of the text is one of the sequence.
    Whoever runs the model masks what lies behind a row's own token ids. `pooled` as in `stacked`."""
    length = max(row.cross.shape[1] for row in rows)
    cross = torch.cat([lengthened(row.cross, row.cross.shape[1], length, left) for row in rows])
    shared = None
    if rows[0].pooled is not None:
        shared = torch.cat([(row if pooled is None else rows[pooled]).pooled for row in rows])
    extra = dict(rows[0].extra)
    for key in dict.fromkeys(key for row in rows for key in row.extra):
        values = [row.extra.get(key) for row in rows]
        if key == "attention_mask":
            if all(value is None or bool(value.all()) for value in values):
                # One row for all: some families count the places of them all together.
                extra[key] = torch.ones(1, length, dtype=torch.long)
                continue
            values = [
                torch.ones(1, row.cross.shape[1], dtype=torch.long) if value is None else value
                for row, value in zip(rows, values)
            ]
        if all(isinstance(value, Tensor) and value.ndim > 1 for value in values):
            lengths = [row.cross.shape[1] for row in rows]
            extra[key] = torch.cat([lengthened(v, n, length, left) for v, n in zip(values, lengths)])
    return Conditioning(cross, shared, tuple(r for row in rows for r in row.token_ids), extra)


def lengthened(x: Tensor, own: int, length: int, left: bool = False) -> Tensor:
    """A tensor [1, ...] with zeros behind, or in front of, the places of the dimension that has as many as
    the prompt."""
    places = next((dim for dim in range(1, x.ndim) if x.shape[dim] == own), None)
    if places is None or own == length:
        return x
    added = list(x.shape)
    added[places] = length - own
    zeros = x.new_zeros(added)
    return torch.cat([zeros, x] if left else [x, zeros], places)


def fingerprint(denoiser: nn.Module, first: Tensor | None = None) -> str:
    """A denoiser's name by its layout and its first weights: the same in float16 and in float32, wherever it
    was loaded from. `first` stands in for the first weights, where patches lie on its own or bfloat16 has
    rounded them."""
    shapes = [(name, tuple(p.shape)) for name, p in denoiser.named_parameters()]
    first = (next(denoiser.parameters()) if first is None else first).detach().to("cpu", torch.float16)
    return hashlib.sha256(repr(shapes).encode() + first.numpy().tobytes()).hexdigest()[:16]


class PictureModel(Protocol):
    """A frozen text-to-picture diffusion model.

    Latents [B, C, h, w] are scaled as the denoiser was trained on; pictures [B, 3, H, W] lie in [0, 1].
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def text_encoders(self) -> Mapping[str, TextEncoderInfo]:
        """Keyed "clip_l", "clip_g", "clip_h", "t5xxl", "qwen3_4b" ..."""

    @property
    def family(self) -> str:
        """What whoever runs it calls its family, "" where that has no name."""

    @property
    def joint(self) -> bool:
        """Whether text and picture share their attention, as in most transformers; else the picture has
        cross-attention to the text."""

    @property
    def native_size(self) -> int:
        """The side in pixels of the pictures that it was trained on."""

    @property
    def guidance(self) -> float:
        """The classifier-free guidance of a usual picture: 1 for models that were distilled with theirs."""

    @property
    def fingerprint(self) -> str:
        """What tells its denoiser from another (`fingerprint`)."""

    @property
    def sigmas(self) -> Tensor:
        """Noise over signal at each timestep [T], ascending."""

    def check_editable(self) -> None:
        """Raises InputError for a model whose attention no edit reaches."""

    def embed_text(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Per text encoder, where texts are that a sound may be [N, d], float32. CLIP's: their states at the
        end token after the final LayerNorm, unprojected, the space that sounds are aligned with. Others': the
        mean of their pieces' word embeddings."""

    @property
    def widths(self) -> Mapping[str, int]:
        """The width of each text encoder's words, as `text_encoders` has it, without reading them all."""

    def embed_words(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Per text encoder, the mean of texts' pieces' word embeddings [N, d], float32, on the CPU: where
        texts stand among its words."""

    def checkpointing(self) -> AbstractContextManager:
        """Inside, a loss keeps little for its backward pass, which computes the rest again."""

    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures to latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures."""

    def encode_prompt(self, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
        """`vectors` stand in for the tokens' own; the result is differentiable in them. Raises InputError
        for a token of another width or for another text encoder."""

    def predict_noise(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The noise in noisy latents at timesteps t [B] int64 (0..999), whatever the model itself
        predicts."""

    def denoising_loss(self, latents: Tensor, cond: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error at timesteps t [B] in what the model was trained to predict: noise, v, or a
        flow's velocity."""

    def sample(
        self,
        cond: Conditioning,
        uncond: Conditioning,
        *,
        seeds: list[int],
        steps: int = 30,
        guidance: float = 7.5,
        width: int | None = None,
        height: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
        edit: Control | None = None,
    ) -> Tensor:
        """One latent per seed, each as it would be alone; `callback(step, steps, denoised latents)` may
        raise. An edit of several rows has as many in `cond`, and every seed gives as many latents, in that
        order, of one noise."""
