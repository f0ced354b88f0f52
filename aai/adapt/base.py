"""What a picture model is called, whatever its weights: by its text encoders, or by its own name."""

from __future__ import annotations

from collections.abc import Mapping

from ..picture.model import PictureModel

FAMILIES = {
    (("clip_l", 768),): "Stable Diffusion 1",
    (("clip_h", 1024),): "Stable Diffusion 2",
    (("clip_l", 768), ("clip_g", 1280)): "Stable Diffusion XL",
    (("clip_g", 1280),): "Stable Diffusion XL Refiner",
}
UNNAMED = "a model"
"""What a family without a name is called."""


def base_of(model: PictureModel) -> str:
    """The name of a picture model's family: fine-tuned and quantised models share it."""
    known = FAMILIES.get(tuple(model.widths.items()))
    return known or f"{model.family or UNNAMED} that reads {in_words(model.widths)}"


def in_words(widths: Mapping[str, int]) -> str:
    """Text encoders and the widths of their words, to be read: "clip_l of 768, clip_g of 1280"."""
    return ", ".join(f"{key} of {width}" for key, width in widths.items())


def is_other_base(base: str, model: PictureModel) -> bool:
    """Whether a base, as `base_of` calls it, is another than a model's; not where either has no name of its
    own."""
    return base != base_of(model) and is_named(model) and not base.startswith(f"{UNNAMED} ")


def is_named(model: PictureModel) -> bool:
    """Whether the family has a name of its own, by which its models are told from others'."""
    return tuple(model.widths.items()) in FAMILIES or bool(model.family)
