"""What a picture model offers, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..prompt import Prompt

Vectors = Mapping[str, Mapping[str, Tensor]]
"""{token name: {text encoder: [n, d]}}"""


@dataclass(frozen=True)
class TextEncoderInfo:
    """A text encoder's word embeddings: their width, their mean length, and the spread of their numbers."""

    dim: int
    mean_norm: float
    std: float


@dataclass(frozen=True)
class Conditioning:
    """An encoded prompt: cross [B, L, D] for cross-attention, pooled [B, P] where the family has it (SDXL),
    and {token name: its positions among the L}."""

    cross: Tensor
    pooled: Tensor | None = None
    positions: dict[str, list[int]] = field(default_factory=dict)


class PictureModel(Protocol):
    """A frozen text-to-picture diffusion model.

    Latents [B, C, h, w] are scaled as the U-Net was trained on; pictures [B, 3, H, W] lie in [0, 1].
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def text_encoders(self) -> Mapping[str, TextEncoderInfo]:
        """Keyed "clip_l", "clip_g", "clip_h"."""

    @property
    def native_size(self) -> int:
        """The side in pixels of the pictures that it was trained on."""

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
        """Mean squared error at timesteps t [B] in what the model was trained to predict: noise or v."""

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
    ) -> Tensor:
        """One latent per seed, each as it would be alone; `callback(step, steps, denoised latents)` may
        raise."""
