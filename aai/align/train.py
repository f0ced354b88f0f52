"""Stage 1: tunes the audio branch by eq. 1, everything else frozen.

The frozen towers are encoded once, before training: a step sees sounds as filter banks, and texts and
pictures as the vectors they have become. Only `momentum="literal_shared"` sends pictures through the last
block at every step, from the tokens that come before it.

Many processes share a batch (`ranks.py`): each hears its own sounds, and all compare all of them, so that the
loss and the gradients are those of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.cavmae import CAVMAE, pool
from ..errors import InputError, is_out_of_memory, logged
from ..optim import set_rate
from .checkpoint import Checkpoint, Training
from .distributed import ALONE, Distributed
from .losses import alignment_loss, info_nce, momentum_contrastive, same_label_targets
from .settings import TAU_RANGE, AlignSettings


@dataclass(frozen=True)
class Pairs:
    """A batch: normalised filter banks [B, frames, mel], text vectors and picture vectors [B, D], label
    numbers [B]; for "literal_shared", what `CAVMAE.visual_tokens` made of the pictures, [B, n, D]."""

    fbanks: Tensor
    f_t: Tensor
    f_v: Tensor
    labels: Tensor
    tokens_v: Tensor | None = None


@dataclass(frozen=True)
class AlignResult:
    """Every step's losses ("loss", "a_t", "a_v", "l_t"), the temperature at the end, and the step (counted
    from 1) whose weights the model now has, with what `measure` gave there."""

    curve: list[dict[str, float]]
    tau: float
    step: int
    measured: float | None = None


class _Hearing(nn.Module):
    """The audio branch as a module of its own, which is what torch averages gradients for."""

    def __init__(self, model: CAVMAE):
        super().__init__()
        self.model = model

    def forward(self, fbanks: Tensor, keep: Tensor | None) -> Tensor:
        return self.model.audio_features(fbanks, keep)


def _patches_to_hear(
    model: CAVMAE, batch: int, keep: float, generator: torch.Generator, ranks: Distributed
) -> Tensor | None:
    if keep >= 1:
        return None
    count = model.config.audio_tokens
    scores = torch.rand(batch * ranks.count, count, generator=generator)[ranks.share(batch * ranks.count)]
    return scores.argsort(-1)[:, : max(1, round(keep * count))].to(model.modality_a.device)


def eq1(
    model: CAVMAE,
    twin: CAVMAE | None,
    pairs: Pairs,
    settings: AlignSettings,
    alpha: float,
    keep: Tensor | None,
    tau: Tensor | None = None,
    ranks: Distributed = ALONE,
    hear: Callable[[Tensor, Tensor | None], Tensor] | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Eq. 1 on a batch, of which `pairs` is this rank's share: the loss, and its parts as numbers.

    `tau` is a learned temperature; `hear` stands in for the model's `audio_features`.
    """
    tau = settings.tau if tau is None else tau
    hear = hear or model.audio_features

    def heard(by: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        with torch.autocast(pairs.fbanks.device.type, torch.bfloat16, enabled=settings.bf16):
            features = by(pairs.fbanks, keep)
        return ranks.gather(features.float())

    f_a, f_t, f_v, labels = heard(hear), *map(ranks.gather, (pairs.f_t, pairs.f_v, pairs.labels))
    if settings.momentum == "literal_shared":
        # The visual encoder counts as frozen: its block moves, but through sound alone.
        with torch.no_grad():
            f_v = ranks.gather(pool(model.see(pairs.tokens_v)))
    zero = f_a.sum() * 0
    targets = same_label_targets(labels) if settings.multi_positive else None
    a_t = info_nce(f_a, f_t, tau, targets) if settings.audio_text else zero
    a_v = info_nce(f_a, f_v, tau) if settings.audio_visual else zero
    l_t = zero
    if settings.momentum != "none" and settings.audio_visual:
        with torch.no_grad():
            # A twin of what never moves is what it is a twin of: literally, q = p.
            q_a = heard(twin.audio_features) if settings.momentum == "audio" else f_a
            shared = settings.momentum == "literal_shared"
            q_v = ranks.gather(pool(twin.see(pairs.tokens_v))) if shared else f_v
        l_t = momentum_contrastive(f_a, f_v, q_a, q_v, tau)
    loss = alignment_loss(a_t, a_v, l_t, alpha)
    return loss, {"loss": loss.item(), "a_t": a_t.item(), "a_v": a_v.item(), "l_t": l_t.item()}


def follow(twin: CAVMAE, model: CAVMAE, m: float) -> None:
    """The twin's audio branch (and with `share_unified` the block that sees) becomes m of itself and 1 - m
    of the model's."""
    with torch.no_grad():
        for follower, parameter in zip(twin.audio_parameters(), model.audio_parameters()):
            follower.lerp_(parameter, 1 - m)


def align(
    model: CAVMAE,
    batches: Callable[[torch.Generator, int], Pairs],
    settings: AlignSettings,
    callback: Callable[[int, int, dict], None] | None = None,
    measure: Callable[[CAVMAE], float] | None = None,
    measure_every: int = 100,
    ranks: Distributed = ALONE,
    checkpoint: Checkpoint | None = None,
    on_stop: Callable[[AlignResult], None] | None = None,
) -> AlignResult:
    """Tunes the audio branch in place.

    `batches(generator, size)` gives the next batch, of which each of `ranks` takes its own rows; all draw
    from the same random numbers. `callback(step, total, figures)` gets a step's losses, "rate", "alpha" and
    "tau", and what was "measured" where it was; it may raise to stop. `measure(model)` is a quality, more is
    better, taken every `measure_every` steps and after the last: at the end, or where the callback stops it,
    the model has the weights that measured best; without it, the latest. `on_stop` gets what a training that
    ends early after a step or more has come to, before the exception goes on. With a `checkpoint`, a training
    that was stopped or killed goes on from the last state that it kept, to the same curve. Raises InputError
    where a batch or the model does not fit `settings.momentum`, the checkpoint is another training's, memory
    runs out, or the loss is no number any more: the model then has the weights that measured best, or where
    none were measured, those of the lowest loss (its mean over `measure_every` steps).
    """
    shared = model.blocks_u_v is model.blocks_u
    if shared != (settings.momentum == "literal_shared"):
        raise InputError(
            f"Momentum '{settings.momentum}' cannot tune a model whose last block is "
            f"{'one for both' if shared else 'kept twice'}: make the model with "
            f"share_unified={not shared}, or choose another momentum."
        )
    ranks.check(settings.batch)
    generator = torch.Generator().manual_seed(settings.seed)
    model.requires_grad_(False)
    parameters = model.audio_parameters()
    for parameter in parameters:
        parameter.requires_grad_(True)
    twin = None
    if settings.momentum in ("audio", "literal_shared"):
        twin = copy.deepcopy(model).requires_grad_(False)
    tau = torch.tensor(settings.tau, device=parameters[0].device, requires_grad=settings.learn_tau)
    groups = [{"params": parameters}]
    if settings.learn_tau:
        groups.append({"params": [tau], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(
        groups, lr=settings.rate, betas=(0.95, 0.999), weight_decay=settings.weight_decay
    )
    followers = twin.audio_parameters() if twin else []
    training = Training(parameters, followers, optimizer, tau, generator, batches)

    def finish() -> AlignResult:
        model.requires_grad_(False)
        if training.best is None:
            return AlignResult(training.curve, tau.item(), len(training.curve))
        measured, step, best_tau, weights = training.best
        _put(parameters, weights)
        return AlignResult(training.curve, best_tau, step, measured)

    begun = 0
    try:
        if checkpoint:
            training.restore(checkpoint, settings)
        begun = len(training.curve)
        hear = ranks.averaging(_Hearing(model))
        lowest = math.inf
        steady = training.best or (None, begun, tau.item(), _copied(parameters))
        for step in range(begun, settings.steps):
            if settings.schedule == "cosine":
                set_rate(optimizer, settings.rate, step, settings.steps, settings.warmup)
            alpha = settings.alpha * min(1, step / max(settings.ramp_steps, 1))
            figures = _gradients(
                model, twin, batches, settings, alpha, tau, generator, ranks, hear, optimizer
            )
            longest = 1.0 if settings.schedule == "cosine" else math.inf
            norm = nn.utils.clip_grad_norm_(parameters, longest)
            if not (math.isfinite(figures["loss"]) and torch.isfinite(norm)):
                training.best = steady
                raise InputError(
                    f"The training diverged at step {step + 1}: {_way_out(checkpoint, step, begun)}"
                )
            if not training.best and (step + 1) % measure_every == 0:
                # Before the step: what it leads to has no loss yet.
                recent = [*training.curve, figures][-measure_every:]
                mean = sum(part["loss"] for part in recent) / len(recent)
                if mean < lowest:
                    lowest, steady = mean, (None, step, tau.item(), _copied(parameters))
            optimizer.step()
            with torch.no_grad():
                tau.clamp_(*TAU_RANGE)
            if twin is not None:
                follow(twin, model, settings.m)
            training.curve.append(figures)
            told = {**figures, "rate": optimizer.param_groups[0]["lr"], "alpha": alpha, "tau": tau.item()}
            last = step + 1 == settings.steps
            if measure and ((step + 1) % measure_every == 0 or last):
                with torch.no_grad():
                    quality = ranks.agree(measure(model) if ranks.rank == 0 else 0.0)
                told["measured"] = quality
                if training.best is None or quality > training.best[0]:
                    steady = training.best = quality, step + 1, tau.item(), _copied(parameters)
            if checkpoint and ranks.rank == 0 and ((step + 1) % checkpoint.every == 0 or last):
                training.save(checkpoint, settings)
            if callback:
                callback(step + 1, settings.steps, told)
    except BaseException as error:
        stopped = finish()
        # What a state held already is kept.
        if on_stop and len(stopped.curve) > begun:
            with logged("The encoder so far could not be kept."):
                on_stop(stopped)
        if is_out_of_memory(error):
            raise InputError(
                f"Memory ran out at step {len(stopped.curve) + 1}: lower the batch, or else the share of "
                "patches that is heard (keep), or take bf16."
            ) from error
        raise
    return finish()


def _way_out(checkpoint: Checkpoint | None, step: int, begun: int) -> str:
    """What to do where a step (counted from 0) diverged of a training that went on after `begun` steps."""
    if step == begun > 0:
        return "what its last state holds has diverged already, so begin anew with a lower rate (--restart)."
    if checkpoint and checkpoint.path.exists():
        return "lower the rate, and it goes on from its last state."
    return "lower the rate."


def _copied(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def _put(parameters: list[Tensor], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values):
        parameter.copy_(value)


def _gradients(
    model: CAVMAE,
    twin: CAVMAE | None,
    batches: Callable[[torch.Generator, int], Pairs],
    settings: AlignSettings,
    alpha: float,
    tau: Tensor,
    generator: torch.Generator,
    ranks: Distributed,
    hear: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> dict[str, float]:
    """Leaves a step's gradients, the mean over its batches, in the parameters; the mean losses."""
    optimizer.zero_grad()
    parts = []
    for part in range(settings.accumulate):
        pairs = batches(generator, settings.batch)
        keep = _patches_to_hear(model, len(pairs.fbanks), settings.keep, generator, ranks)
        # Ranks average their gradients once a step.
        waits = ranks.count > 1 and part + 1 < settings.accumulate
        with hear.no_sync() if waits else contextlib.nullcontext():
            loss, figures = eq1(model, twin, pairs, settings, alpha, keep, tau, ranks, hear)
            (loss / settings.accumulate).backward()
        parts.append(figures)
    return {name: sum(figures[name] for figures in parts) / len(parts) for name in parts[0]}
