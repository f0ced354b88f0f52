"""Sampling pairs: which conditioning the injection belongs to, and one noise for a source and its edited
pictures."""

from __future__ import annotations

import math
import uuid
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from comfy.samplers import CFGGuider
from torch import Tensor

from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.edit_run import EditRun
from ...aai.inject.loudness import Reweight
from ...aai.picture.schedule import progress
from ...aai.prompt import TokenIds
from .clip import TOKEN_IDS
from .flow_edit import SOURCE
from .noise import SharedDraws, draws_by_itself, draws_noise, shared_noise
from .state import KEY, RUN, Attachment, SamplingRun

WINDOWS = "context_handler"
"""Under it a MODEL's options hold core's context windows."""
LAZY_CACHE = "LazyCacheHolder"
"""What core's node LazyCache leaves in a model's options (comfy_extras/nodes_easycache.py)."""

MAHIRO = "mahiro_normd"
"""What core's node Mahiro gives a model for its guidance (comfy_extras/nodes_mahiro.py)."""


def prepared(executor, guider, sigmas, extra_args, callback, noise, *rest, **named):
    """A sampler's `sample`, with a SamplingRun in its options: which conditionings the injection belongs to,
    and the heat map that this sampling fills."""
    options = extra_args["model_options"]["transformer_options"]
    attachment: Attachment | None = options.get(KEY)
    if attachment is None:
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    injection, heatmap = attachment.injection, attachment.heatmap
    injection.groups(range(len(noise)))
    token_ids, prompts, negative = _conditionings_of(injection, guider.conds, attachment.is_unet)
    sampler = executor.class_obj
    whole = sampler.max_denoise(guider, sigmas) and not sigmas[-1]
    # A guider of another kind has a cfg that it does not use.
    plain = type(guider).predict_noise is CFGGuider.predict_noise
    edit = injection.begin(noise.shape[1:], len(sigmas) - 1 if whole else None, guider.cfg if plain else None)
    windows = extra_args["model_options"].get("context_handler")
    retained = tuple(getattr(windows, "latent_retain_index_list", ()))
    options[RUN] = SamplingRun(
        edit, token_ids, negative, heatmap, prompts, retained=retained, batch=len(noise)
    )
    sampled = executor if isinstance(injection, Reweight) else partial(_pairs, executor, edit)
    kept = attachment.kept and attachment.kept.chunk(
        injection, guider, sampler, extra_args, sigmas, noise, *rest
    )
    before = kept and kept.load()
    if before is not None:
        return before.to(noise.device)
    with heatmap.sampling(len(noise), tuple(noise.shape[2:])) if heatmap else nullcontext():
        drawn = sampled(guider, sigmas, extra_args, callback, noise, *rest, **named)
    if kept:
        kept.save(drawn)
    return drawn


def _pairs(executor, edit: EditRun, guider, sigmas, extra_args, callback, noise, *rest, **named):
    """An edit's sampling: its rows share the noise that the sampler draws."""
    sampler, rows = executor.class_obj, edit.rows
    if not torch.equal(noise, noise[::rows].repeat_interleave(rows, 0)):
        raise InputError(
            "The source and its edited pictures have noise of their own: sample the latent that came from "
            "Prompt To Prompt Edit; after VAE Encode, put LatentBatchSeedBehavior (fixed) before KSampler."
        )
    _check_hints(guider, len(noise), rows)
    if type(extra_args["model_options"]["transformer_options"].get("easycache")).__name__ == LAZY_CACHE:
        raise InputError(
            "LazyCache chooses by the whole batch which steps it skips, so a source would change with its "
            "edited picture: take LazyCache out."
        )
    guidance = extra_args["model_options"].get("sampler_post_cfg_function", ())
    if any(getattr(function, "__name__", "") == MAHIRO for function in guidance):
        raise InputError(
            "Mahiro (Positive-Biased Guidance) guides all pictures of a batch by one mean, so a source would "
            "change with its edited picture: take Mahiro out."
        )
    blend = edit.blending and edit.blending.blend
    if blend and blend.changes and extra_args["model_options"].get(WINDOWS) is not None:
        raise InputError(
            "In context windows no one sees what changes in the whole film: turn blend_changes off, or take "
            "the context windows out."
        )
    function = getattr(sampler, "sampler_function", None)
    if "adaptive" in getattr(function, "__name__", ""):
        raise InputError(
            "The sampler dpm_adaptive chooses its steps by the whole batch, so a source would change with "
            "its edited picture: choose another sampler."
        )
    # A later stage of several adds no noise: it resumes from the latents of the stage before.
    if noise.any() and sigmas[0] > 0:
        sigma = float(sigmas[0])
        # What core's noise_scaling multiplies the noise by.
        amount = (1 + sigma**2) ** 0.5 if sampler.max_denoise(guider, sigmas) else sigma
        noise = edit.added_noise(noise, sigma, amount)
    # Behind SplitSigmas there may be no step left.
    if function is None or len(sigmas) < 2:
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    before = sampler.extra_options
    try:
        if draws_noise(function) and sampler.extra_options.get("noise_sampler") is None:
            shared = shared_noise(function, noise, sigmas, extra_args.get("seed"), rows)
            sampler.extra_options = {**sampler.extra_options, "noise_sampler": shared}
        masked = len(rest) > 1 and rest[1] is not None
        drawing = SharedDraws(noise.shape, rows) if draws_by_itself(sampler, masked) else nullcontext()
        with drawing:
            return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    finally:
        sampler.extra_options = before


def _check_hints(guider, count: int, rows: int) -> None:
    """Raises InputError where core, which gives a batch of pictures (a ControlNet's, references) to the
    latents in turn, would give an edited picture another than its source."""
    for cond in (cond for conds in guider.conds.values() for cond in conds or ()):
        batches = list(cond.get("reference_latents") or ())
        control = cond.get("control")
        while control is not None:
            batches.append(getattr(control, "cond_hint_original", None))
            control = getattr(control, "previous_controlnet", None)
        for batch in batches:
            if not isinstance(batch, torch.Tensor) or len(batch) < 2:
                continue
            turns = [i % len(batch) for i in range(count)]
            if not all(torch.equal(batch[turns[i]], batch[turns[i - i % rows]]) for i in range(count)):
                raise InputError(
                    f"A ControlNet or a reference has {len(batch)} pictures, which the source and its edited "
                    "pictures would take in turn: connect one, and edit photographs one after another."
                )


def guided_to_source(executor, x, timestep, model_options={}, seed=None):
    """A guider's `predict_noise`, without what guidance of others' (SAG, PAG) has added to the source's
    trajectory, or where nothing may change."""
    options = model_options.get("transformer_options", {})
    run: SamplingRun | None = options.get(RUN)
    if run is None:
        return executor(x, timestep, model_options, seed)
    run.observed.clear()
    same = bool((timestep == timestep[0]).all())
    if model_options.get(WINDOWS) is not None and not options[KEY].is_unet and same:
        # Of several, core takes a window's frames; `transformer.injected` makes them as many as rows again.
        timestep = timestep[:1]
    clean = executor(x, timestep, model_options, seed)
    return run.edit.after_guidance(clean, progress(float(timestep[0]), options["sample_sigmas"].tolist()))


def kept_to_source(executor, model, conds, x_in, timestep, model_options):
    """The model's predictions before guidance: an inverted picture's row keeps to its trajectory, and the
    edited rows to where they may differ."""
    options = model_options.get("transformer_options", {})
    run: SamplingRun | None = options.get(RUN)
    if run is None:
        return executor(model, conds, x_in, timestep, model_options)
    # Guiders have orders of their own: the edit's prediction need not be the first.
    ours = [{c.get("uuid") for c in parts or ()} & run.prompted for parts in conds]
    all_ours = set().union(*ours)
    observing = all_ours.isdisjoint(run.observed)
    run.observed.update(all_ours)
    if not observing:
        # Guidance of others' asks again, with attention that is not the picture's.
        options = {**options, RUN: replace(run, observing=False)}
        model_options = {**model_options, "transformer_options": options}
    sigma = float(timestep[0])
    timestep = timestep.expand(len(x_in)) if len(timestep) == 1 else timestep
    predictions = executor(model, conds, run.edit.before_model(x_in, sigma), timestep, model_options)
    prompted = next((i for i, uuids in enumerate(ours) if uuids), None) if observing else None
    return run.edit.after_model(predictions, prompted, progress(sigma, options["sample_sigmas"].tolist()))


def _conditionings_of(
    injection: Edit | Reweight, conds: dict[str, list[dict]], is_unet: bool
) -> tuple[dict, dict, set]:
    """{uuid: token ids} of the conditionings that the injection belongs to, at every position and as they
    were made, and the negative ones' uuids.

    Raises InputError where it belongs to none.
    """
    # Flow Edit's source says what the picture was: its words have no place and no weight in the new one.
    positive = [kind for kind in conds if "negative" not in kind and kind != SOURCE]
    ours = {
        id(c["cross_attn"]): (_token_ids_along(c) if is_unet else c[TOKEN_IDS], c[TOKEN_IDS])
        for kind in positive
        for c in conds[kind]
        if TOKEN_IDS in c and (isinstance(injection, Reweight) or len(c[TOKEN_IDS]) == injection.rows)
    }
    for kind in positive:
        for c in conds[kind]:
            cross = c["model_conds"].get("c_crossattn")
            if id(c["cross_attn"]) in ours and cross is not None and _ends_as(cross.cond, c["cross_attn"]):
                ours[id(cross.cond)] = ours[id(c["cross_attn"])]
    token_ids, prompts, negative = {}, {}, set()
    for kind, parts in conds.items():
        for c in parts:
            # Core copies a conditioning with an area to the other side, with its uuid and the other's words.
            c["uuid"] = uuid.uuid4()
            if "negative" in kind:
                negative.add(c["uuid"])
            cross = c["model_conds"].get("c_crossattn")
            if kind != SOURCE and cross is not None and id(cross.cond) in ours:
                token_ids[c["uuid"]], prompts[c["uuid"]] = ours[id(cross.cond)]
    if not token_ids:
        raise InputError(
            "This model was prepared by Prompt To Prompt Edit, Loudness Reweight or Attention Heatmap, but "
            "the sampler's positive conditioning is another: connect the conditioning of the same node."
        )
    return token_ids, prompts, negative


def _ends_as(longer: Tensor, cross: Tensor) -> bool:
    """Whether core has put something in front of a conditioning (Flux.2)."""
    same = longer.ndim == cross.ndim and longer.shape[1] > cross.shape[1]
    return same and torch.equal(longer[:, -cross.shape[1] :].to(cross), cross)


def _token_ids_along(conditioning: dict) -> tuple[TokenIds, ...]:
    """The token ids of each row at every position of a conditioning: None where core has added another
    conditioning at its end."""
    token_ids, length = conditioning[TOKEN_IDS], conditioning["cross_attn"].shape[1]
    own = math.lcm(*(len(row) for row in token_ids))
    if length == own:
        return token_ids
    return tuple(row * (own // len(row)) + (None,) * (length - own) for row in token_ids)
