"""What a picture model is called, whatever its weights: by its text encoders, or by its own name."""

from __future__ import annotations

from ..picture.model import PictureModel

FAMILIES = {
    (("clip_l", 768),): "Stable Diffusion 1",
    (("clip_h", 1024),): "Stable Diffusion 2",
    (("clip_l", 768), ("clip_g", 1280)): "Stable Diffusion XL",
    (("clip_g", 1280),): "Stable Diffusion XL Refiner",
}


def base_of(model: PictureModel) -> str:
    """The name of a picture model's family: fine-tuned and quantised models share it."""
    widths = tuple(model.widths.items())
    read = ", ".join(f"{key} of {width}" for key, width in widths)
    return FAMILIES.get(widths) or f"{model.family or 'a model'} that reads {read}"


def is_named(model: PictureModel) -> bool:
    """Whether the family has a name of its own, by which its models are told from others'."""
    return tuple(model.widths.items()) in FAMILIES or bool(model.family)
