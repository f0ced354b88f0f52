"""What a flow transformer of diffusers predicts, called the way its family wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError
from .packing import PACK, packed, place_ids, unpacked

GUIDANCE = 3.5
"""The guidance that a model which was distilled with it is told, as ComfyUI tells it."""


@dataclass(frozen=True)
class Velocity:
    """A transformer as v = n - x0 of x = (1 - s) x0 + s n.

    predict(x [B, C, h, w], s [B], cross [B, L, D], pooled [B, P] or None) gives [B, C, h, w]; it runs
    `module`, whose `blocks` can be checkpointed. channels: of its latents. attention: the modules of its
    joint attention, where sequences begin with the text; none where an edit does not reach it.
    """

    module: nn.Module
    predict: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    blocks: tuple[nn.Module, ...]
    channels: int
    attention: tuple[nn.Module, ...] = ()


def flux(transformer: nn.Module) -> Velocity:
    """diffusers' `FluxTransformer2DModel` on latents packed 2x2. Without a pooled text it reads zeros.

    Raises InputError for one that reads more than noisy latents (Fill, Control).
    """
    config = transformer.config
    latents = config.out_channels or config.in_channels
    if config.in_channels != latents:
        raise InputError(
            f"This transformer reads {config.in_channels} channels for latents of {latents}: load one that "
            "draws from words alone."
        )

    def predict(x: Tensor, s: Tensor, cross: Tensor, pooled: Tensor | None) -> Tensor:
        height, width = x.shape[-2:]
        if pooled is None:
            pooled = x.new_zeros(len(x), config.pooled_projection_dim)
        rows = transformer(
            hidden_states=packed(x),
            timestep=s,
            encoder_hidden_states=cross,
            pooled_projections=pooled,
            img_ids=place_ids(height, width).to(x.device),
            txt_ids=cross.new_zeros(cross.shape[1], 3),
            guidance=s.new_full((len(x),), GUIDANCE) if config.guidance_embeds else None,
        ).sample
        return unpacked(rows, height, width)

    blocks = *transformer.transformer_blocks, *transformer.single_transformer_blocks
    attention = tuple(block.attn for block in blocks)
    return Velocity(transformer, predict, blocks, latents // PACK**2, attention)


def z_image(transformer: nn.Module) -> Velocity:
    """diffusers' `ZImageTransformer2DModel`, which counts time from noise to picture and predicts -v."""

    def predict(x: Tensor, s: Tensor, cross: Tensor, pooled: Tensor | None) -> Tensor:
        pictures = list(x.unsqueeze(2).unbind(0))
        made = transformer(pictures, 1 - s, list(cross.unbind(0)), return_dict=False)[0]
        return -torch.stack(list(made)).squeeze(2)

    blocks = *transformer.noise_refiner, *transformer.context_refiner, *transformer.layers
    return Velocity(transformer, predict, blocks, transformer.config.in_channels)


def velocity_of(transformer: nn.Module) -> Velocity:
    """Raises InputError for a transformer of another class, by its name."""
    name = type(transformer).__name__
    if name not in FAMILIES:
        raise InputError(f"No sound can be drawn with a {name} here: load {' or '.join(FAMILIES)}.")
    return FAMILIES[name](transformer)


FAMILIES = {"FluxTransformer2DModel": flux, "ZImageTransformer2DModel": z_image}
"""By a transformer's class in diffusers."""
