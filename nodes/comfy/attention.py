"""Injection in the attention of ComfyUI's U-Nets.

Attention patches of others stay: they are called with the queries, keys and values that the injection makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...aai.errors import InputError
from ...aai.inject.attention import Injection
from ...aai.inject.words import values_at
from ...aai.picture.control import Groups
from ...aai.picture.schedule import progress
from .state import RUN, SamplingRun


def injected(executor, x, timesteps, context=None, y=None, control=None, transformer_options={}, **kwargs):
    """The U-Net's forward, its attention patched for this call alone."""
    run: SamplingRun | None = transformer_options.get(RUN)
    if run is None:
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
    uuids = transformer_options["uuids"]
    sigma = float(transformer_options["sigmas"][0])
    sigmas = transformer_options["sample_sigmas"].tolist()
    share, steps = progress(sigma, sigmas), max(len(sigmas) - 1, 1)
    count, length = run.rows_of(x, uuids), context.shape[1]
    injections = [
        (
            run.edit.injection(share, steps, run.token_ids[uuid], length).to(context),
            run.edit.groups(range(chunk * count, (chunk + 1) * count)),
        )
        for chunk, uuid in enumerate(uuids)
        if uuid in run.token_ids
    ]
    null = run.edit.unconditional(sigma)
    if null is not None:
        context = _with_null(context, null, [uuid in run.negative for uuid in uuids])
    options = dict(transformer_options)
    patches = options.get("patches", {})
    options["patches"] = {
        **patches,
        # First: others' (HyperTile, ToMe) change what a row and a place are.
        "attn1_patch": [_self_attention(injections), *patches.get("attn1_patch", [])],
    }
    worded = with_words(context, run, uuids)
    if worded is not None:
        # First: others' see it as the conditioning's.
        values = partial(_values_of, context, worded)
        options["patches"]["attn2_patch"] = [values, *patches.get("attn2_patch", [])]
    replace = options.get("patches_replace", {})
    others = replace.get("attn2", {})
    observers = _observers(run, uuids, injections, count, tuple(x.shape[-2:]))
    ours = {
        block: _cross_attention(injections, others.get(block) or others.get(block[:2]), observers, len(x))
        for block in blocks_of(executor.class_obj)
    }
    options["patches_replace"] = {**replace, "attn2": {**others, **ours}}
    return executor(x, timesteps, context, y, control, options, **kwargs)


def with_words(context: Tensor, run: SamplingRun, uuids: list) -> Tensor | None:
    """What a U-Net's value rows are made from, [B, L, D], with the words' weights; None where there are none.

    Values are linear in the conditioning, so that here they cost nothing. Core repeats a conditioning, with
    what Conditioning Concat has put behind it, to the length of another's.
    """
    words = [word for word in run.words if word.changes]
    if not words:
        return None
    count, values = len(context) // len(uuids), context.clone()
    for chunk, uid in enumerate(uuids):
        if uid not in run.prompts:
            continue
        prompts = run.prompts[uid]
        own = math.lcm(*map(len, prompts))
        # With what was put behind the prompts.
        whole = max(own, *map(len, run.token_ids[uid]))
        for i in range(count):
            row, token_ids = chunk * count + i, prompts[i % len(prompts)]
            for word in words:
                without = word.without.get(token_ids)
                if without is None:
                    continue
                copies = -(-own // without.cross.shape[1])
                other = without.cross[0].to(context).repeat(copies, 1)[:own]
                source = (without.token_ids[0] * copies)[:own]
                edited = token_ids * (own // len(token_ids))
                own_rows = context[row, :own]
                scale = run.edit.plan.word_scale(word, i)
                moved = values_at(scale, edited, source, own_rows, other) - own_rows
                for begin in range(0, context.shape[1] - own + 1, whole):
                    values[row, begin : begin + own] += moved
    return values


def _values_of(context: Tensor, worded: Tensor, n: Tensor, given: Tensor, value: Tensor, options: dict):
    return n, given, worded.to(value) if value.shape == context.shape else value


def _with_null(context: Tensor, null: Tensor, negative: list[bool]) -> Tensor:
    """The context with the negative chunks' rows replaced by the step's optimised embedding."""
    chunks = list(context.chunk(len(negative)))
    null = null.to(context).repeat(context.shape[1] // len(null), 1)
    for i, is_negative in enumerate(negative):
        if is_negative:
            chunks[i] = null.expand_as(chunks[i])
    return torch.cat(chunks)


def _self_attention(injections: list[tuple[Injection, Groups]]) -> Callable:
    def patch(n: Tensor, context: Tensor, value: Tensor, options: dict):
        size = tuple(options["original_shape"][-2:])
        for injection, groups in injections:
            borrowed = injection.self_attention(n, groups, size)
            context = borrowed if context is n else injection.self_attention(context, groups, size)
            n = borrowed
        return n, context, value

    return patch


def _observers(
    run: SamplingRun,
    uuids: list,
    injections: list[tuple[Injection, Groups]],
    count: int,
    size: tuple[int, int],
) -> list[Callable]:
    """What sees every layer's queries and keys in this call of `count` latents of `size` a chunk: the blend
    and the heat map of a sampling that has them."""
    if not run.observing:
        return []
    observers: list[Callable] = [
        lambda q, k, groups=groups: run.edit.observe(scaled_dot_product_attention, q, k, groups, size)
        for _, groups in injections
    ]
    if run.heatmap is not None:
        observers += [
            lambda q, k, rows=range(chunk * count, (chunk + 1) * count), token_ids=run.token_ids[uuid]: (
                run.heatmap.observe(scaled_dot_product_attention, q, k, rows, token_ids, size)
            )
            for chunk, uuid in enumerate(uuids)
            if uuid in run.prompted
        ]
    return observers


def _cross_attention(
    injections: list[tuple[Injection, Groups]], other: Callable | None, observers: list[Callable], rows: int
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
        fitted = [(_fitted(injection, k, rows), groups) for injection, groups in injections]
        for observe in observers:
            observe(_split(q, heads), _split(k, heads))
        attend = plain if other is None else lambda q, k, v: other(q, k, v, options)
        for injection, groups in fitted:
            attend = _before(attend, plain, injection, groups)
        return attend(q, k, v)

    return replace


def _fitted(injection: Injection, k: Tensor, rows: int) -> Injection:
    """`Injection.fitted`. Raises InputError for other positions, or other rows, than the conditioning's."""
    fitted = injection.fitted(k, rows)
    if fitted is None:
        raise InputError(
            f"Another node's attention patch has made {len(k)} x {k.shape[1]} places of the "
            f"conditioning's {rows} x {injection.length} (Attention Couple does), so that edits and loudness "
            "no longer know where the words stand: take that node off this model."
        )
    return fitted


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, N, heads * d] to [B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _before(attend: Callable, plain: Callable, injection: Injection, groups: Groups) -> Callable:
    return lambda q, k, v: injection.cross_attention(attend, q, k, v, groups, plain)


def blocks_of(unet: torch.nn.Module) -> list[tuple[str, int, int]]:
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
