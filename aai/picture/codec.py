"""Pictures to latents and back, through any autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Codec:
    """Pictures [B, 3, H, W] in [-1, 1] to latents as the diffusion model knows them, and back; `downscale`
    pixels a latent."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    downscale: int


def codec_of(vae: nn.Module) -> Codec:
    """The codec of diffusers' AutoencoderKL (the mean latent, scaled), or of a module with `encode`,
    `decode` and `downscale` whose latents are scaled already."""
    config = getattr(vae, "config", None)
    scaling = getattr(config, "scaling_factor", None)
    if scaling is None:
        return Codec(vae.encode, vae.decode, getattr(vae, "downscale", 8))
    shift = getattr(config, "shift_factor", None) or 0.0
    return Codec(
        encode=lambda x: (vae.encode(x).latent_dist.mode() - shift) * scaling,
        decode=lambda z: vae.decode(z / scaling + shift).sample,
        downscale=2 ** (len(config.block_out_channels) - 1),
    )
