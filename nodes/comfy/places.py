"""Where the text and the picture stand in a transformer's sequence."""

from __future__ import annotations

import math

from torch import nn

from . import families


def text_places(
    layout: families.Attention, transformer: nn.Module, length: int, named: dict
) -> tuple[int, int]:
    """How many places stand in front of the prompt's, and how many the whole text has."""
    front = named.get(layout.front)
    before = 0 if front is None else front.shape[1]
    before += getattr(transformer, layout.registers).shape[1] if layout.registers else 0
    multiple = getattr(transformer, layout.filler[2], None) if layout.filler[2] else None
    text = length if not multiple else -(-length // multiple) * multiple
    beside = named.get(layout.beside)
    return before, before + text + (0 if beside is None else 2 * beside.shape[-2])


def places_ahead(transformer: nn.Module, named: dict) -> int:
    """How many places of references stand between the text and the picture's own, in one call."""
    transformer = _made(transformer)
    argument = families.find(families.AHEAD, transformer)
    if argument is None and getattr(transformer, "ref_conv", None) is not None:
        argument = "reference_latent"
    latents = named.get(argument)
    latents = latents if isinstance(latents, (list, tuple)) else [] if latents is None else [latents]
    patch = patch_of(transformer)
    return sum(
        math.prod(-(-side // part) for side, part in zip(reversed(latent.shape[2:]), reversed(patch)))
        for latent in latents
    )


def patch_of(transformer: nn.Module) -> tuple[int, int, int]:
    """How many latent frames, rows and columns one place of a transformer's sequence is."""
    transformer = _made(transformer)
    spatial = getattr(transformer, "patch_spatial", None)
    if spatial is not None:
        return transformer.patch_temporal, spatial, spatial
    holder = transformer if hasattr(transformer, "patch_size") else getattr(transformer, "patchifier", None)
    size = getattr(holder, "patch_size", 1)
    size = (size, size) if isinstance(size, int) else tuple(size)
    return (1,) * (3 - len(size)) + size


def _made(transformer: nn.Module) -> nn.Module:
    """What a compiled module was made from."""
    return getattr(transformer, "_orig_mod", transformer)
