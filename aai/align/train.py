"""Stage 1: tunes the audio branch by eq. 1, everything else frozen.

What the frozen towers give is computed once, before training: a step takes sounds as filter banks, and texts
and pictures as vectors. Only `momentum="literal_shared"` sends pictures through the last block at every step,
from the tokens before it.

Many processes share a batch (`distributed.py`): each encodes its own sounds, and all compare all of them, so
that the loss and the gradients are those of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributed import ALONE, Distributed
from ..encoders.cavmae import CAVMAE, pool
from ..errors import InputError, is_out_of_memory, logged
from ..optim import set_rate
from ..precision import autocast
from .checkpoint import Best, Checkpoint, TrainingState
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
    from 1) whose weights the model now has, with what `measure` gave there: the most of all steps that were
    measured. `last` is what it gave the last time."""

    curve: list[dict[str, float]]
    tau: float
    step: int
    measured: float | None = None
    last: float | None = None


class _AudioBranch(nn.Module):
    """The audio branch as a module of its own, which is what torch averages gradients for."""

    def __init__(self, model: CAVMAE):
        super().__init__()
        self.model = model

    def forward(self, fbanks: Tensor, keep: Tensor | None) -> Tensor:
        return self.model.audio_features(fbanks, keep)


def eq1(
    model: CAVMAE,
    twin: CAVMAE | None,
    pairs: Pairs,
    settings: AlignSettings,
    alpha: float,
    keep: Tensor | None,
    tau: Tensor | None = None,
    distributed: Distributed = ALONE,
    audio_features: Callable[[Tensor, Tensor | None], Tensor] | None = None,
    times_l_t: int = 1,
) -> tuple[Tensor, dict[str, float]]:
    """Eq. 1 on a batch, of which `pairs` is this process's share: the loss, and its parts as numbers.

    `keep` [B, n] names the patches to encode (None: all); `tau` is a learned temperature; `audio_features`
    stands in for the model's own. L_t counts `times_l_t` times; at 0 it is told as 0, and the twin rests.
    """
    tau = settings.tau if tau is None else tau

    def embed(branch: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        with autocast(pairs.fbanks.device, settings.bf16):
            features = branch(pairs.fbanks, keep)
        return distributed.gather(features.float())

    f_a = embed(audio_features or model.audio_features)
    f_t, f_v, labels = map(distributed.gather, (pairs.f_t, pairs.f_v, pairs.labels))
    if settings.momentum == "literal_shared":
        # The visual encoder counts as frozen: its block moves, but through sound alone.
        with torch.no_grad():
            f_v = distributed.gather(pool(model.see(pairs.tokens_v)))
    zero = f_a.sum() * 0
    targets = same_label_targets(labels) if settings.multi_positive else None
    a_t = info_nce(f_a, f_t, tau, targets) if settings.audio_text else zero
    a_v = info_nce(f_a, f_v, tau) if settings.audio_visual else zero
    l_t = zero
    if settings.momentum != "none" and settings.audio_visual and times_l_t:
        with torch.no_grad():
            # A twin of what never moves is what it is a twin of: literally, q = p.
            q_a = embed(twin.audio_features) if settings.momentum == "audio" else f_a
            shared = settings.momentum == "literal_shared"
            q_v = distributed.gather(pool(twin.see(pairs.tokens_v))) if shared else f_v
        l_t = momentum_contrastive(f_a, f_v, q_a, q_v, tau)
    loss = alignment_loss(a_t, a_v, times_l_t * l_t, alpha)
    return loss, {"loss": loss.item(), "a_t": a_t.item(), "a_v": a_v.item(), "l_t": l_t.item()}


def follow(twin: CAVMAE, model: CAVMAE, m: float) -> None:
    """The twin's audio branch (and with `share_unified` the block that sees) becomes m of itself and 1 - m
    of the model's."""
    with torch.no_grad():
        for follower, parameter in zip(twin.audio_parameters(), model.audio_parameters()):
            follower.lerp_(parameter, 1 - m)


class AlignTrainer:
    """The model, its twin and the optimizer of one training; `state` is all that a step changes."""

    def __init__(
        self,
        model: CAVMAE,
        batches: Callable[[torch.Generator, int], Pairs],
        settings: AlignSettings,
        distributed: Distributed,
    ):
        self.model, self.batches, self.settings, self.distributed = model, batches, settings, distributed
        model.requires_grad_(False)
        self.parameters = model.audio_parameters()
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.twin = None
        if settings.momentum in ("audio", "literal_shared"):
            self.twin = copy.deepcopy(model).requires_grad_(False)
        tau = torch.tensor(settings.tau, device=self.parameters[0].device, requires_grad=settings.learn_tau)
        groups = [{"params": self.parameters}]
        if settings.learn_tau:
            groups.append({"params": [tau], "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(
            groups, lr=settings.rate, betas=(0.95, 0.999), weight_decay=settings.weight_decay
        )
        followers = self.twin.audio_parameters() if self.twin else []
        generator = torch.Generator().manual_seed(settings.seed)
        self.state = TrainingState(self.parameters, followers, optimizer, tau, generator, batches)

    def begin(self, checkpoint: Checkpoint | None) -> int:
        """Restores the state, where the checkpoint has one; the steps that it has behind it."""
        if checkpoint:
            self.state.restore(checkpoint, self.settings)
        # After that: processes begin with the weights of the first.
        self.audio_branch = self.distributed.averaging(_AudioBranch(self.model))
        return len(self.state.curve)

    def alpha(self, step: int) -> float:
        return self.settings.alpha * min(1, step / max(self.settings.ramp_steps, 1))

    def gradients(self, step: int) -> tuple[dict[str, float], bool]:
        """Leaves the gradients of a step (counted from 0), the mean over its batches, in the parameters: the
        mean losses, and whether all of it is finite."""
        settings, state = self.settings, self.state
        cosine = settings.schedule == "cosine"
        if cosine:
            set_rate(state.optimizer, settings.rate, step, settings.steps, settings.warmup)
        state.optimizer.zero_grad()
        parts = []
        for part in range(settings.accumulate):
            pairs = self.batches(state.generator, settings.batch)
            keep = self._patches_to_keep(len(pairs.fbanks))
            # Processes average their gradients once a step.
            waits = self.distributed.count > 1 and part + 1 < settings.accumulate
            with self.audio_branch.no_sync() if waits else contextlib.nullcontext():
                loss, losses = eq1(
                    self.model,
                    self.twin,
                    pairs,
                    settings,
                    self.alpha(step),
                    keep,
                    state.tau,
                    self.distributed,
                    self.audio_branch,
                    0 if step % settings.twin_every else settings.twin_every,
                )
                (loss / settings.accumulate).backward()
            parts.append(losses)
        losses = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0 if cosine else math.inf)
        return losses, math.isfinite(losses["loss"]) and bool(torch.isfinite(norm))

    def update(self, losses: dict[str, float]) -> None:
        """Takes the step whose gradients are in the parameters."""
        self.state.optimizer.step()
        with torch.no_grad():
            self.state.tau.clamp_(*TAU_RANGE)
        self.state.curve.append(losses)
        every = self.settings.twin_every
        if self.twin is not None and len(self.state.curve) % every == 0:
            follow(self.twin, self.model, self.settings.m**every)

    def snapshot(self, measured: float | None = None) -> Best:
        """The weights as they are now."""
        return Best.copied(self.parameters, len(self.state.curve), self.state.tau.item(), measured)

    def finish(self) -> AlignResult:
        """Freezes the model, with the best weights where some are known to be, else the latest."""
        self.model.requires_grad_(False)
        state = self.state
        if state.best is None:
            return AlignResult(state.curve, state.tau.item(), len(state.curve))
        state.best.put(self.parameters)
        best = state.best
        return AlignResult(state.curve, best.tau, best.step, best.measured, state.measured)

    def _patches_to_keep(self, batch: int) -> Tensor | None:
        """Patchout: the numbers [batch, n] of the patches to encode; None for all."""
        if self.settings.keep >= 1:
            return None
        patches, total = self.model.config.audio_tokens, batch * self.distributed.count
        scores = torch.rand(total, patches, generator=self.state.generator)[self.distributed.share(total)]
        order = scores.argsort(-1)[:, : max(1, round(self.settings.keep * patches))]
        return order.to(self.model.modality_a.device)


def align(
    model: CAVMAE,
    batches: Callable[[torch.Generator, int], Pairs],
    settings: AlignSettings,
    callback: Callable[[int, int, dict], None] | None = None,
    measure: Callable[[CAVMAE], float] | None = None,
    measure_every: int = 100,
    distributed: Distributed = ALONE,
    checkpoint: Checkpoint | None = None,
    on_stop: Callable[[AlignResult], None] | None = None,
) -> AlignResult:
    """Tunes the audio branch in place.

    `batches(generator, size)` gives the next batch, of which each of the `distributed` processes takes its
    own rows; all draw from the same random numbers. `callback(step, total, figures)` gets a step's losses,
    "rate", "alpha" and "tau", and what was "measured" where it was; it may raise to stop. `measure(model)` is
    a quality, more is better, taken every `measure_every` steps and after the last: at the end, or where the
    callback stops it, the model has the weights that measured best; without it, the latest. `on_stop` gets
    what a training that ends early after a step or more has come to, before the exception is raised again.
    With a `checkpoint`, a training that was stopped or killed resumes from the last state that it kept, to
    the same curve. Raises InputError where a batch or the model does not fit `settings.momentum`, the
    checkpoint is another training's, memory runs out, or the loss is no longer finite: the model then has the
    weights that measured best, or where none were measured, those of the lowest loss (its mean over
    `measure_every` steps).
    """
    _check_shared_block(model, settings)
    distributed.check(settings.batch)
    trainer = AlignTrainer(model, batches, settings, distributed)
    state, begun = trainer.state, 0
    try:
        begun = trainer.begin(checkpoint)
        lowest, fallback = math.inf, trainer.snapshot()
        for step in range(begun, settings.steps):
            losses, finite = trainer.gradients(step)
            if not finite:
                state.best = state.best or fallback
                raise InputError(
                    f"The training diverged at step {step + 1}: {_remedy(checkpoint, step, begun)}"
                )
            due = (step + 1) % measure_every == 0
            if due and not state.best:
                # Before the step: what it leads to has no loss yet.
                recent = [*state.curve, losses][-measure_every:]
                mean = sum(part["loss"] for part in recent) / len(recent)
                if mean < lowest:
                    lowest, fallback = mean, trainer.snapshot()
            trainer.update(losses)
            rate = state.optimizer.param_groups[0]["lr"]
            figures = {**losses, "rate": rate, "alpha": trainer.alpha(step), "tau": state.tau.item()}
            last = step + 1 == settings.steps
            if measure and (due or last):
                with torch.no_grad():
                    quality = distributed.agree(measure(model) if distributed.rank == 0 else 0.0)
                figures["measured"] = state.measured = quality
                if state.best is None or quality > state.best.measured:
                    state.best = trainer.snapshot(quality)
            if checkpoint and distributed.rank == 0 and ((step + 1) % checkpoint.every == 0 or last):
                state.save(checkpoint, settings)
            if callback:
                callback(step + 1, settings.steps, figures)
    except BaseException as error:
        stopped = trainer.finish()
        # What a checkpoint holds already is kept.
        if on_stop and len(stopped.curve) > begun:
            with logged("The encoder so far could not be kept."):
                on_stop(stopped)
        if is_out_of_memory(error):
            raise InputError(
                f"Memory ran out at step {len(stopped.curve) + 1}: lower the batch, or else the share of "
                "patches that is heard (keep), or take bf16."
            ) from error
        raise
    return trainer.finish()


def _check_shared_block(model: CAVMAE, settings: AlignSettings) -> None:
    shared = model.blocks_u_v is model.blocks_u
    if shared != (settings.momentum == "literal_shared"):
        raise InputError(
            f"Momentum '{settings.momentum}' cannot tune a model whose last block is "
            f"{'one for both' if shared else 'kept twice'}: make the model with "
            f"share_unified={not shared}, or choose another momentum."
        )


def _remedy(checkpoint: Checkpoint | None, step: int, begun: int) -> str:
    """What to do where a step (counted from 0) diverged of a training that resumed after `begun` steps."""
    if checkpoint and step == begun > 0:
        return f"what its last state holds has diverged already, so {checkpoint.anew('with a lower rate')}."
    if checkpoint and checkpoint.path.exists():
        return "lower the rate, and it goes on from its last state."
    return "lower the rate."
