"""Sampling pairs: which conditioning the injection belongs to, and one noise for a source and its edited
pictures."""

from __future__ import annotations

import math
import uuid
from contextlib import nullcontext
from functools import partial

import torch
from comfy.samplers import CFGGuider
from torch import Tensor

from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.loudness import Reweight
from ...aai.picture.schedule import progress
from ...aai.prompt import TokenIds
from .clip import TOKEN_IDS
from .noise import SharedDraws, _draws_by_itself, _draws_noise, shared_noise


def prepared(executor, guider, sigmas, extra_args, callback, noise, *rest, **named):
    """A sampler's `sample`, told which conditionings the injection belongs to; its heat map is this run's."""
    from .state import HEATMAP, KEY, LOOKED, NEGATIVE, TOLD

    options = extra_args["model_options"]["transformer_options"]
    injection: Edit | Reweight | None = options.get(KEY)
    if injection is None:
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    injection.groups(range(len(noise)))
    options[TOLD], options[NEGATIVE] = _told(guider.conds, injection)
    options[LOOKED] = set()
    heatmap = options.get(HEATMAP)
    sampled = executor if isinstance(injection, Reweight) else partial(_pairs, executor, injection)
    with heatmap.sampling(len(noise), tuple(noise.shape[-2:])) if heatmap else nullcontext():
        return sampled(guider, sigmas, extra_args, callback, noise, *rest, **named)


def _pairs(executor, injection: Edit, guider, sigmas, extra_args, callback, noise, *rest, **named):
    """An edit's sampling: its rows share the noise that the sampler draws."""
    from .state import BLENDING

    options = extra_args["model_options"]["transformer_options"]
    sampler = executor.class_obj
    blending = injection.blending(tuple(noise.shape[-2:]))
    if blending is not None:
        options[BLENDING] = blending
    rows = injection.rows
    if not torch.equal(noise, noise[::rows].repeat_interleave(rows, 0)):
        raise InputError(
            "The source and its edited pictures have noise of their own: sample the latent that came from "
            "Prompt To Prompt Edit; after VAE Encode, put LatentBatchSeedBehavior (fixed) before KSampler."
        )
    function = getattr(sampler, "sampler_function", None)
    if "adaptive" in getattr(function, "__name__", ""):
        raise InputError(
            "The sampler dpm_adaptive chooses its steps by the whole batch, so a source would change with "
            "its edited picture: choose another sampler."
        )
    if injection.trajectory is not None:
        whole = sampler.max_denoise(guider, sigmas) and not sigmas[-1]
        # A guider of another kind has a cfg that it does not use.
        plain = type(guider).predict_noise is CFGGuider.predict_noise
        injection.trajectory.warn_of_others(len(sigmas) - 1 if whole else None, guider.cfg if plain else None)
    # A later stage of several adds no noise, and goes on from the latents of the stage before.
    if injection.trajectory is not None and noise.any():
        noise = _noise_of_trajectory(injection, guider, sampler, sigmas, noise)
    if function is None:
        return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    before = sampler.extra_options
    try:
        if _draws_noise(function) and sampler.extra_options.get("noise_sampler") is None:
            shared = shared_noise(function, noise, sigmas, extra_args.get("seed"), rows)
            sampler.extra_options = {**sampler.extra_options, "noise_sampler": shared}
        masked = len(rest) > 1 and rest[1] is not None
        drawing = SharedDraws(noise.shape, rows) if _draws_by_itself(sampler, masked) else nullcontext()
        with drawing:
            return executor(guider, sigmas, extra_args, callback, noise, *rest, **named)
    finally:
        sampler.extra_options = before


def guided_to_source(executor, x, timestep, model_options={}, seed=None):
    """The guider's prediction: what guidance of others' (SAG, PAG) has added to the source's way, or where
    nothing may change, is taken off."""
    from .state import BLENDING, KEY, LOOKED

    options = model_options.get("transformer_options", {})
    injection, blending = options.get(KEY), options.get(BLENDING)
    if LOOKED in options:
        options[LOOKED].clear()
    clean = executor(x, timestep, model_options, seed)
    if injection is not None and injection.trajectory is not None:
        clean = injection.trajectory.leave(clean, injection.rows)
    if blending is not None:
        clean = blending.held(clean, progress(float(timestep[0]), options["sample_sigmas"].tolist()))
    return clean


def kept_to_source(executor, model, conds, x_in, timestep, model_options):
    """The model's predictions before guidance: an inverted picture's row keeps to its way, and the edited
    rows to where they may differ."""
    from .state import BLENDING, HEATMAP, KEY, LOOKED, NEGATIVE, TOLD

    options = model_options.get("transformer_options", {})
    injection, blending = options.get(KEY), options.get(BLENDING)
    if injection is None or LOOKED not in options:
        return executor(model, conds, x_in, timestep, model_options)
    # Guiders have orders of their own: the edit's prediction need not be the first.
    told = options[TOLD].keys() - options[NEGATIVE]
    held = [{c.get("uuid") for c in some or ()} & told for some in conds]
    ours = set().union(*held)
    looks = ours.isdisjoint(options[LOOKED])
    options[LOOKED].update(ours)
    if not looks:
        # Guidance of others' asks again, with attention that is not the picture's.
        without = {key: value for key, value in options.items() if key not in (BLENDING, HEATMAP)}
        model_options = {**model_options, "transformer_options": without}
    sigma = float(timestep[0])
    trajectory = injection.trajectory
    if trajectory is not None:
        x_in = trajectory.enter(x_in, sigma, injection.rows)
    predictions = executor(model, conds, x_in, timestep, model_options)
    if trajectory is not None:
        predictions = [trajectory.leave(clean, injection.rows) for clean in predictions]
    if blending is not None:
        share = progress(sigma, options["sample_sigmas"].tolist())
        asked = next((p for p, some in zip(predictions, held) if some), None)
        if looks and asked is not None:
            blending.compare(asked)
        predictions = [blending.blended(clean, share) for clean in predictions]
    return predictions


def _noise_of_trajectory(injection: Edit, guider, sampler, sigmas: Tensor, noise: Tensor) -> Tensor:
    """The noise that takes the inverted picture to where its way is at the sampler's first sigma, and as far
    what a pass before has made of it."""
    trajectory = injection.trajectory
    trajectory.check_size(noise.shape[1:])
    sigma = float(sigmas[0])
    # What core's noise_scaling multiplies the noise by.
    amount = (1 + sigma**2) ** 0.5 if sampler.max_denoise(guider, sigmas) else sigma
    return ((trajectory.at(sigma) - trajectory.clean) / amount).to(noise).expand_as(noise)


def _told(conds: dict[str, list[dict]], injection: Edit | Reweight) -> tuple[dict, set]:
    """{uuid: reads} of the conditionings that the injection belongs to, and the negative ones' uuids.

    Raises InputError where it belongs to none.
    """
    ours = {
        id(c["cross_attn"]): _token_ids_along(c)
        for kind, held in conds.items()
        if "negative" not in kind
        for c in held
        if TOKEN_IDS in c and (isinstance(injection, Reweight) or len(c[TOKEN_IDS]) == injection.rows)
    }
    found, negative = {}, set()
    for kind, held in conds.items():
        for c in held:
            # Core copies a conditioning with an area to the other side, with its uuid and the other's words.
            c["uuid"] = uuid.uuid4()
            if "negative" in kind:
                negative.add(c["uuid"])
            cross = c["model_conds"].get("c_crossattn")
            if cross is not None and id(cross.cond) in ours:
                found[c["uuid"]] = ours[id(cross.cond)]
    if not found:
        raise InputError(
            "This model was prepared by Prompt To Prompt Edit, Loudness Reweight or Attention Heatmap, but "
            "the sampler's positive conditioning is another: connect the conditioning of the same node."
        )
    return found, negative


def _token_ids_along(conditioning: dict) -> tuple[TokenIds, ...]:
    """What is read all along a conditioning: nothing of ours where core has added another at its end."""
    token_ids, length = conditioning[TOKEN_IDS], conditioning["cross_attn"].shape[1]
    own = math.lcm(*(len(row) for row in token_ids))
    if length == own:
        return token_ids
    return tuple(row * (own // len(row)) + (None,) * (length - own) for row in token_ids)
