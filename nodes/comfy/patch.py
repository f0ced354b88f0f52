"""A MODEL that samples with an injection."""

from __future__ import annotations

from comfy.patcher_extension import WrappersMP

from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.heatmap import Heatmap
from ...aai.inject.loudness import Reweight
from ...aai.picture.model import fingerprint
from . import sampling
from .attention import blocks_of, injected
from .state import KEY, Attachment


def attach(model, injection: Edit | Reweight, heatmap: Heatmap | None = None):
    """A clone of a MODEL that samples with the injection, in place of one that it carried before, and fills
    the heat map, or without one, the MODEL's own.

    Raises InputError for a model without cross-attention, or an inverted picture of another model.
    """
    if not blocks_of(model.model.diffusion_model):
        raise InputError(
            "This model has no cross-attention to edit: load a Stable Diffusion 1, 2 or XL checkpoint."
        )
    injection.check_model(fingerprint_of(model))
    model = model.clone()
    options = model.model_options["transformer_options"]
    if heatmap is None and KEY in options:
        heatmap = options[KEY].heatmap
    options[KEY] = Attachment(injection, heatmap)
    for kind, wrapper in (
        (WrappersMP.SAMPLER_SAMPLE, sampling.prepared),
        (WrappersMP.PREDICT_NOISE, sampling.guided_to_source),
        (WrappersMP.CALC_COND_BATCH, sampling.kept_to_source),
        (WrappersMP.DIFFUSION_MODEL, injected),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def fingerprint_of(model) -> str:
    """The `fingerprint` of a MODEL's U-Net without its patches (LoRAs, merges), which lie in its weights only
    while it is loaded."""
    unet = model.model.diffusion_model
    key = f"diffusion_model.{next(unet.named_parameters())[0]}"
    (weight, _), *_ = model.get_key_patches(key)[key]
    return fingerprint(unet, weight)


def attached(model) -> Edit | Reweight | None:
    """What a MODEL samples with, if anything."""
    held: Attachment | None = model.model_options["transformer_options"].get(KEY)
    return held and held.injection
