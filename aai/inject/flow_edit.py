"""Pictures and clips edited on flow models without inverting them: FlowEdit (Kulikov et al. 2025,
arXiv 2412.08629).

Noise is added to the source, the velocity that the source's prompt gives there is taken from the one that the
edited prompt gives at as far from the edited picture, and the difference alone moves the picture. Where both
prompts agree nothing moves, so what is not asked for stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    # A node takes STRENGTH alone at ComfyUI's start, and the models bring a dozen modules.
    from ..picture.flow import FlowPictureModel
    from ..picture.model import Conditioning

STRENGTH = 24 / 28
"""The share of the schedule's steps that edit, n_max of all: the paper's for Flux.1."""

Velocities = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""(noisy source, noisy edited picture, sigma): the velocities n - x0 by either prompt."""


def editing(sigmas: Tensor, strength: float = STRENGTH) -> Tensor:
    """The part of a schedule (sigmas [T + 1], descending) that edits: its last `strength`, one step at least.

    Raises InputError for a strength outside of (0, 1].
    """
    if not 0 < strength <= 1:
        raise InputError(f"A strength of {strength:g} edits nothing: take one above 0 and up to 1.")
    steps = len(sigmas) - 1
    return sigmas[steps - max(1, round(strength * steps)) :]


@torch.no_grad()
def flow_edit(
    source: Tensor,
    sigmas: Tensor,
    velocities: Velocities,
    noise: Iterable[Tensor],
    *,
    edited: Tensor | None = None,
    mask: Tensor | None = None,
    callback: Callable[[int, int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """The edited latents of clean `source` latents [B, C, ...], which are returned where nothing differs.

    sigmas [T + 1]: descending, of (0, 1], the last 0 or where the edit stops. noise: a tensor as `source` for
    each step. edited: how far the edit has come that goes on here. mask: 1 where the picture may change, 0
    where it stays, in a shape that multiplies `source`. callback(step, steps, edited picture so far, what the
    step takes the edited picture for) may raise.
    """
    edited, steps = source.clone() if edited is None else edited, len(sigmas) - 1
    for step, (sigma, after, drawn) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), noise)):
        noisy = (1 - sigma) * source + sigma * drawn
        noisy_edited = noisy + (edited - source)
        by_source, by_edited = velocities(noisy, noisy_edited, sigma)
        change = by_edited - by_source
        change = change if mask is None else change * mask
        if callback is not None:
            callback(step, steps, edited, edited - sigma * change)
        edited = edited + (after - sigma) * change
    return edited


def edit_picture(
    model: FlowPictureModel,
    latents: Tensor,
    source: Conditioning,
    edited: Sequence[Conditioning],
    uncond: Conditioning,
    *,
    steps: int = 28,
    guidance: float,
    source_guidance: float = 1.0,
    strength: float = STRENGTH,
    seed: int = 0,
    mask: Tensor | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """A picture's latents [1, C, h, w] by every edited prompt: [N, C, h, w].

    All take the same noise, and each its own length, since not every transformer leaves out what a longer one
    would pad it with. `source` is the prompt of what the picture shows; guidance leads to what an edited
    prompt says, source_guidance to what the source's does. mask [h, w]: 1 where the picture may change.
    """
    count = len(edited)
    latents = latents.to(model.device).float().expand(count, -1, -1, -1)
    generator = torch.Generator().manual_seed(seed)
    part = editing(model.flow.simple(steps), strength)
    noise = (torch.randn(1, *latents.shape[1:], generator=generator).to(latents) for _ in part)

    def guided(x: Tensor, sigma: float, cond: Conditioning, scale: float) -> Tensor:
        s = x.new_full((len(x),), sigma)
        v = model.predict_velocity(x, s, cond)
        if scale == 1:
            return v
        plain = model.predict_velocity(x, s, uncond)
        return plain + scale * (v - plain)

    def velocities(noisy: Tensor, noisy_edited: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        # The source is the same in every row.
        by_source = guided(noisy[:1], sigma, source, source_guidance)
        rows = noisy_edited.split(1)
        by_edited = [guided(row, sigma, cond, guidance) for row, cond in zip(rows, edited)]
        return by_source.expand_as(noisy), torch.cat(by_edited)

    told = None if callback is None else lambda step, total, *_: callback(step + 1, total)
    mask = None if mask is None else mask.to(latents)
    return flow_edit(latents, part, velocities, noise, mask=mask, callback=told)
