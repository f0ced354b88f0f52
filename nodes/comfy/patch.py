"""A MODEL that samples with an injection."""

from __future__ import annotations

from collections.abc import Sequence

from comfy.patcher_extension import WrappersMP

from ...aai.errors import InputError
from ...aai.inject.edit import Edit, reweighted
from ...aai.inject.heatmap import Heatmap
from ...aai.inject.loudness import Reweight
from ...aai.picture.model import fingerprint
from ...aai.prompt import token_names
from . import sampling
from .attention import blocks_of, injected
from .clip import token_ids_of
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
    if injection.latent_size is not None:
        # Only an inverted picture is bound to a model; the weights of others need not be readable.
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
    attachment: Attachment | None = model.model_options["transformer_options"].get(KEY)
    return attachment and attachment.injection


def with_scales(
    model, conditioning: list, scales: Sequence[float], names: Sequence[str] = ()
) -> Edit | Reweight:
    """What a MODEL samples with, and eq. 8's scales, one or one for each picture, for the tokens of these
    names (all, where none is named) in a CONDITIONING.

    Raises InputError where the CONDITIONING has no such token, or is an edit's and the MODEL is not, or the
    scales are not as many as the pictures.
    """
    token_ids, before = token_ids_of(conditioning), attached(model)
    known = token_names(token_ids)
    missing = next((name for name in names if name not in known), None)
    if not known or missing is not None:
        there = ", ".join(f"<{n}>" for n in known) or "none"
        raise InputError(
            f"The conditioning has no sound token{f' <{missing}>' if missing else ''} (there is {there}): "
            "connect Sound Token Conditioning or Prompt To Prompt Edit, and name one of its tokens."
        )
    if not isinstance(before, Edit) and any(len(rows) > 1 for rows in token_ids):
        raise InputError(
            "The conditioning is an edit's, but the model is not: connect Prompt To Prompt Edit's model "
            "as well."
        )
    return reweighted(before, names or known, scales)
