"""FlowEdit inside ComfyUI's samplers."""

from __future__ import annotations

import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...aai.errors import InputError, logger
from ...aai.inject.flow_edit import editing, flow_edit
from . import unfinished
from .prediction import is_flow, spread

log = logger(__name__)

SOURCE = "aai_source"
"""Under what a guider has the source's conditioning beside "positive" and "negative"."""


def sampler(source: list, source_cfg: float, strength: float) -> comfy.samplers.KSAMPLER:
    """A SAMPLER that edits the latent it is given: the source's CONDITIONING says what is there, and the
    guider's what is to be there."""
    editing(torch.ones(2), strength)
    options = {"source": source, "source_cfg": source_cfg, "strength": strength}
    return comfy.samplers.KSAMPLER(sample_flow_edit, options)


def attach(model, source: list, source_cfg: float, strength: float):
    """A clone of a MODEL whose sampling edits the latent that it is given, whatever the sampler's name.

    Raises InputError for a MODEL that is no flow model.
    """
    check_flow(model)
    made = sampler(source, source_cfg, strength)

    def outer_sample(executor, noise, latent_image, sampler, sigmas, *rest, **named):
        name = getattr(getattr(sampler, "sampler_function", None), "__name__", "").removeprefix("sample_")
        log.info("FlowEdit takes the steps; the sampler's name (%s) is not used.", name or "none")
        # Under a name of its own core loads and prepares it with the others.
        executor.class_obj.conds[SOURCE] = comfy.sampler_helpers.convert_cond(source)
        return executor(noise, latent_image, made, sigmas, *rest, **named)

    model = model.clone()
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, SOURCE)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, SOURCE, outer_sample)
    return model


def check_flow(model) -> None:
    """Raises InputError for a MODEL that is no flow model."""
    if not is_flow(model):
        raise InputError(
            f"FlowEdit is for flow models (Flux, Z-Image, Qwen-Image, SD3.5, Wan ...), and this is "
            f"{type(model.model).__name__}: take Invert Image instead."
        )


def sample_flow_edit(
    model_k, x, sigmas, extra_args, callback, disable=None, *, source, source_cfg, strength
) -> Tensor:
    """The sampler function, as k-diffusion's: `model_k.latent_image` is the clean source, or what the sampler
    before has made of it, where that ended above sigma 0."""
    guider, latent = model_k.inner_model, model_k.latent_image
    check_flow(guider.model_patcher)
    if latent is None or not latent.any():
        raise InputError(
            "FlowEdit changes a picture, and the latent is empty: connect VAE Encode of the picture that is "
            "to be edited."
        )
    begun = None if model_k.noise.any() else unfinished.begun(latent)
    if begun is None and not model_k.noise.any() and sigmas[0] < guider.inner_model.model_sampling.sigma_max:
        raise InputError(
            "Flow Edit begins in the middle of the steps, without noise, and with no unfinished edit: for a "
            "photograph turn add_noise on; behind another KSampler (Advanced), put Flow Edit before that one "
            "too, turn its return_with_leftover_noise on, and draw it again."
        )
    clean = latent if begun is None else begun.source.to(latent)
    options, seed = extra_args["model_options"], extra_args.get("seed") or 0
    mask = extra_args.get("denoise_mask")
    conds = guider.conds.get(SOURCE) or _prepared(guider, latent, source, mask, seed)
    negative = guider.conds.get("negative")
    if negative is None and source_cfg != 1:
        raise InputError(
            f"The guider has no negative prompt, against which a source_cfg of {source_cfg:g} is measured: "
            "set source_cfg to 1, or take CFGGuider."
        )

    def velocities(noisy: Tensor, noisy_edited: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        times = noisy.new_full((len(noisy),), sigma)
        by_source = comfy.samplers.sampling_function(
            guider.inner_model, noisy, times, negative, conds, source_cfg, options, seed
        )
        by_edited = guider(noisy_edited, times, model_options=options, seed=seed)
        share = spread(times, noisy)
        return (noisy - by_source) / share, (noisy_edited - by_edited) / share

    part = editing(sigmas, strength) if begun is None else sigmas
    skipped = len(sigmas) - len(part)
    generator = torch.Generator().manual_seed(seed % 2**63)
    if begun is not None:
        generator.set_state(begun.noise)
    # As core's noise_scaling: HiDream-O1's noise is eight times as large as its latents.
    size = getattr(guider.inner_model.model_sampling, "noise_scale", 1.0)
    noise = (size * torch.randn(latent.shape, generator=generator).to(latent) for _ in part)

    def note(step: int, steps: int, edited: Tensor, denoised: Tensor) -> None:
        if callback is not None:
            sigma, at = part[step], skipped + step
            callback({"x": edited, "i": at, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})

    edited = flow_edit(clean, part, velocities, noise, edited=latent, mask=mask, callback=note)
    if sigmas[-1] > 0:
        unfinished.leave(edited, clean, generator)
    # Core divides a flow's result by as much: this one holds no noise.
    return edited * (1 - sigmas[-1])


def _prepared(guider, latent: Tensor, source: list, mask: Tensor | None, seed: int) -> list:
    """The source's conditioning where core has not prepared it with the guider's."""
    conds = comfy.sampler_helpers.convert_cond(source)
    if any(c.get("control") is not None for c in conds):
        raise InputError(
            "The source's conditioning has a ControlNet, which a sampler cannot load: use Flow Edit's model "
            "with KSampler."
        )
    return comfy.samplers.process_conds(
        guider.inner_model, latent, {SOURCE: conds}, latent.device, latent, mask, seed
    )[SOURCE]
