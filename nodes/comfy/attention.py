"""Injection in ComfyUI's U-Nets: what a MODEL carries, and how its attention obeys.

Attention patches of others stay: they are called with the queries, keys and values that the injection makes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...aai.errors import InputError
from ...aai.inject.attention import Groups, Injection
from ...aai.inject.edit import Edit
from ...aai.inject.heatmap import Heatmap
from ...aai.inject.loudness import Reweight
from ...aai.picture.model import fingerprint
from ...aai.picture.schedule import progress
from . import sampling

KEY = "aai_injection"
"""Under it a MODEL's transformer options hold its Edit or Reweight, and its wrappers are known by it."""

BLENDING = "aai_blending"
"""Under it the options of one sampling run hold its BlendRun, where it has one."""

HEATMAP = "aai_heatmap"
"""Under it a MODEL's transformer options hold the Heatmap that its sampling fills."""

LOOKED = "aai_looked"
"""Under it those of one sampling run hold the conditionings' uuids that have told, since the guider was last
asked, where their words look and what they change."""

NEGATIVE = "aai_negative"
"""Under it those of one sampling run hold the negative conditionings' uuids."""

TOLD = "aai_told"
"""Under it the options of one sampling run hold {the conditioning's uuid: its reads}."""


def attach(model, injection: Edit | Reweight):
    """A clone of a MODEL that samples with the injection, in place of one that it carried before.

    Raises InputError for a model without cross-attention, or an inverted picture of another model.
    """
    if not _blocks(model.model.diffusion_model):
        raise InputError(
            "This model has no cross-attention to edit: load a Stable Diffusion 1, 2 or XL checkpoint."
        )
    if injection.trajectory is not None:
        injection.trajectory.check_model(fingerprint_of(model))
    model = model.clone()
    model.model_options["transformer_options"][KEY] = injection
    for kind, wrapper in (
        (WrappersMP.SAMPLER_SAMPLE, sampling.prepared),
        (WrappersMP.PREDICT_NOISE, sampling.guided_to_source),
        (WrappersMP.CALC_COND_BATCH, sampling.kept_to_source),
        (WrappersMP.DIFFUSION_MODEL, _injected),
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
    return model.model_options["transformer_options"].get(KEY)


def watched(model, injection: Edit | Reweight, heatmap: Heatmap):
    """A clone of a MODEL that samples with the injection, and shows the heat map where tokens look."""
    model = attach(model, injection)
    model.model_options["transformer_options"][HEATMAP] = heatmap
    return model


def _injected(executor, x, timesteps, context=None, y=None, control=None, transformer_options={}, **kwargs):
    """The U-Net's forward, its attention patched for this call alone."""
    injection, told = transformer_options.get(KEY), transformer_options.get(TOLD)
    if injection is None or not told:
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
    uuids = transformer_options["uuids"]
    sigma = float(transformer_options["sigmas"][0])
    sigmas = transformer_options["sample_sigmas"].tolist()
    share = progress(sigma, sigmas)
    count = len(x) // len(uuids)
    steps = [
        (
            injection.at(share, told[uuid], context.shape[1], max(len(sigmas) - 1, 1)).to(context),
            injection.groups(range(chunk * count, (chunk + 1) * count)),
        )
        for chunk, uuid in enumerate(uuids)
        if uuid in told
    ]
    if injection.trajectory is not None and injection.trajectory.nulls is not None:
        negative = [uuid in transformer_options[NEGATIVE] for uuid in uuids]
        context = _with_null(context, injection.trajectory.null(sigma), negative)
    options = dict(transformer_options)
    patches = options.get("patches", {})
    options["patches"] = {
        **patches,
        # First: others' (HyperTile, ToMe) change what a row and a place are.
        "attn1_patch": [_self_attention(steps), *patches.get("attn1_patch", [])],
    }
    replace = options.get("patches_replace", {})
    others = replace.get("attn2", {})
    looks = _looking(transformer_options, steps, count, tuple(x.shape[-2:]))
    ours = {
        block: _cross_attention(steps, others.get(block) or others.get(block[:2]), looks, len(x))
        for block in _blocks(executor.class_obj)
    }
    options["patches_replace"] = {**replace, "attn2": {**others, **ours}}
    return executor(x, timesteps, context, y, control, options, **kwargs)


def _with_null(context: Tensor, null: Tensor, negative: list[bool]) -> Tensor:
    """The context with the negative chunks' rows replaced by the step's optimised embedding."""
    chunks = list(context.chunk(len(negative)))
    null = null.to(context).repeat(context.shape[1] // len(null), 1)
    for i, is_negative in enumerate(negative):
        if is_negative:
            chunks[i] = null.expand_as(chunks[i])
    return torch.cat(chunks)


def _self_attention(steps: list[tuple[Injection, Groups]]) -> Callable:
    def patch(n: Tensor, context: Tensor, value: Tensor, options: dict):
        size = tuple(options["original_shape"][-2:])
        for injection, groups in steps:
            asks = injection.self_attention(n, groups, size)
            context = asks if context is n else injection.self_attention(context, groups, size)
            n = asks
        return n, context, value

    return patch


def _looking(
    options: dict, steps: list[tuple[Injection, Groups]], count: int, size: tuple[int, int]
) -> list[Callable]:
    """What looks at every layer's queries and keys in this call of `count` latents of `size` a chunk: the
    blend and the heat map of a sampling that has one."""
    looks: list[Callable] = []
    blending, heatmap, told = options.get(BLENDING), options.get(HEATMAP), options[TOLD]
    if blending is not None:
        looks += [
            lambda q, k, groups=groups: blending.look(scaled_dot_product_attention, q, k, groups, size)
            for _, groups in steps
        ]
    if heatmap is not None:
        looks += [
            lambda q, k, rows=range(chunk * count, (chunk + 1) * count), reads=told[uuid]: heatmap.look(
                scaled_dot_product_attention, q, k, rows, reads, size
            )
            for chunk, uuid in enumerate(options["uuids"])
            if uuid in told and uuid not in options[NEGATIVE]
        ]
    return looks


def _cross_attention(
    steps: list[tuple[Injection, Groups]], other: Callable | None, looks: list[Callable], rows: int
) -> Callable:
    def replace(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return optimized_attention(
                q,
                k,
                v,
                options["n_heads"],
                attn_precision=options["attn_precision"],
                transformer_options=options,
            )

        heads = options["n_heads"]
        # Only here is it seen what attn2 patches of others have made of the conditioning.
        fitted = [(injection.fitted(k, rows), groups) for injection, groups in steps]
        for look in looks:
            look(_split(q, heads), _split(k, heads))
        attend = plain if other is None else lambda q, k, v: other(q, k, v, options)
        for injection, groups in fitted:
            attend = _before(attend, plain, injection, groups)
        return attend(q, k, v)

    return replace


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, N, heads * d] to [B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _before(attend: Callable, plain: Callable, injection: Injection, groups: Groups) -> Callable:
    return lambda q, k, v: injection.cross_attention(attend, q, k, v, groups, plain)


def _blocks(unet: torch.nn.Module) -> list[tuple[str, int, int]]:
    """The names that ComfyUI gives a U-Net's attention blocks."""
    places = [
        *((("input", i), part) for i, part in enumerate(getattr(unet, "input_blocks", ()))),
        (("middle", 0), getattr(unet, "middle_block", None) or ()),
        *((("output", i), part) for i, part in enumerate(getattr(unet, "output_blocks", ()))),
    ]
    return [
        (*place, index)
        for place, part in places
        for module in part
        if isinstance(module, SpatialTransformer)
        for index in range(len(module.transformer_blocks))
    ]
