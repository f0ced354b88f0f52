"""Pictures to latents and back, through any autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Codec:
    """Pictures [B, 3, H, W] in [-1, 1] to latents as the diffusion model knows them, and back; `downscale`
    pixels a latent."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    downscale: int


def codec_of(vae: nn.Module) -> Codec:
    """The codec of diffusers' AutoencoderKL (the mean latent, shifted and scaled as its configuration says),
    or of a module with `encode`, `decode` and `downscale` whose latents are scaled already."""
    config = getattr(vae, "config", None)
    scaling = getattr(config, "scaling_factor", None)
    if scaling is None:
        return Codec(vae.encode, vae.decode, getattr(vae, "downscale", 8))
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        # Of one alone diffusers' pipelines take neither.
        mean, deviation = [getattr(config, "shift_factor", None) or 0.0], [1.0]
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (mean, deviation))

    def encode(x: Tensor) -> Tensor:
        latents = vae.encode(x).latent_dist.mode()
        return (latents - mean.to(latents)) * scaling / deviation.to(latents)

    return Codec(
        encode=encode,
        decode=lambda z: vae.decode(z * deviation.to(z) / scaling + mean.to(z)).sample,
        downscale=2 ** (len(config.block_out_channels) - 1),
    )
