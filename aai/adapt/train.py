"""Adapt: eq. 6. f_adapter is trained until "a photo of *" reconstructs a few reference pictures.

Everything else is frozen, the pictures' latents are encoded once, and the gradient reaches f_adapter alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError, is_out_of_memory, logged, logger
from ..picture.model import PictureModel
from ..token import SoundToken
from .base import base_of
from .gradients import Diverged, out_of_memory
from .settings import TrainSettings
from .trainer import TokenTrainer
from .translation import translations

log = logger(__name__)

LICENCE = "those of the sound, the reference pictures and the base model"


@dataclass(frozen=True)
class TrainResult:
    """The token; the loss of each step; (step, loss on fixed noise) of each validation; and a sentence for
    the user where there is something to know."""

    token: SoundToken
    losses: list[float]
    validations: list[tuple[int, float]] = field(default_factory=list)
    note: str = ""


def train_token(
    model: PictureModel,
    f_a: Tensor,
    images: Tensor,
    settings: TrainSettings | None = None,
    name: str = "sound",
    *,
    encoded: bool = False,
    callback: Callable[[int, int, float], None] | None = None,
    on_stop: Callable[[TrainResult], None] | None = None,
    watch: Callable[[TrainResult], None] | None = None,
    watch_every: int = 0,
    resume: SoundToken | None = None,
    table: tuple[Sequence[str], Tensor] | None = None,
    loudness: float | None = None,
    provenance: Mapping[str, str] | None = None,
) -> TrainResult:
    """Trains f_adapter (eq. 6) for a sound's embedding f_a [dim].

    images: pictures [N, 3, H, W] in [0, 1]; or, `encoded`, the model's latents [N, C, h, w] of them, a video
    model's [N, C, frames, h, w].
    table: the sound encoder's labels and their vectors [L, dim] in f_a's space, by which the sound enters
    text encoders that it was not aligned with (`aai.adapt.translation`).
    callback(step, steps, loss) may raise to cancel; `on_stop` then receives the result so far before the
    exception is raised again; where the training diverged, that of the best token. `watch` receives it every
    `watch_every` steps. `resume` continues from a stopped training's token, up to `settings.steps` in all,
    with the same steps as without the stop (without validation, a run judges by its own losses alone which
    token was the best); from an instant token (`universal.SoundAdapter`), which no
    step has trained, it begins at step 0 with that one's f_adapter.

    The model is one that gradients pass: ComfyUI's inside its `training()`. The same model, settings and
    inputs give the same token, on the CPU bit for bit, on a GPU up to rounding. Raises InputError for a
    sound that cannot enter the model's words, no pictures, a loss that is not finite, and too little memory.
    """
    settings = settings or TrainSettings()
    _check(f_a, images, encoded)
    with torch.inference_mode(False), torch.enable_grad():
        # Autograd refuses tensors that were made in inference mode.
        f_a, images = f_a.detach().float().cpu().clone(), images.detach().clone()
        labels, vectors = table if table is not None else ([], torch.zeros(0, 0))
        translation = translations(model, f_a, labels, vectors.detach().float().cpu().clone())
        # A resumed token keeps the map that its adapter was trained with.
        translation = translation if resume is None else resume.translation
        latents = images if encoded else model.encode_images(images)
        trainer = TokenTrainer(model, f_a, translation, latents.to(model.device), settings, name, resume)
        validations: list[tuple[int, float]] = []
        facts = {
            "base": base_of(model),
            "template": settings.template,
            "references": str(len(images)),
            "licence": LICENCE if resume is None else resume.provenance.get("licence", LICENCE),
            **(provenance or {}),
            "seed": str(settings.seed),
        }
        if resume is not None and "adapter" in resume.provenance:
            facts["adapter"] = resume.provenance["adapter"]

        def result(best: bool = False, note: str = "") -> TrainResult:
            token = trainer.token(loudness, {**facts, "steps": str(trainer.steps)}, best)
            return TrainResult(token, list(trainer.losses), list(validations), note)

        checkpointing = model.checkpointing() if settings.checkpointing else contextlib.nullcontext()
        try:
            with checkpointing:
                stopped = _train(trainer, settings, validations, callback, watch, watch_every, result)
        except Diverged:
            _hand_over(on_stop, lambda: _without_momentum(result(best=True)))
            raise
        except Exception as error:
            if not isinstance(error, InputError):
                _hand_over(on_stop, result)
            if is_out_of_memory(error):
                raise out_of_memory(trainer.steps + 1) from error
            raise
        except BaseException:
            _hand_over(on_stop, result)
            raise
        note = _verdict(trainer, validations)
        if note:
            log.warning("%s", note)
        return result(best=bool(settings.validate or note), note=note or stopped)


def _train(
    trainer: TokenTrainer,
    settings: TrainSettings,
    validations: list[tuple[int, float]],
    callback: Callable[[int, int, float], None] | None,
    watch: Callable[[TrainResult], None] | None,
    watch_every: int,
    result: Callable[[], TrainResult],
) -> str:
    """All steps; returns a sentence where they ended early, else ""."""
    trainer.measure_best()
    while True:
        step, last = trainer.steps, trainer.steps == settings.steps
        if trainer.is_due():
            validations.append((step, trainer.validate()))
            trainer.note_validation(validations[-1][1])
            waited = trainer.waited
            if 0 < settings.patience <= waited and 0 < step < settings.steps:
                return f"Stopped at step {step}: the validation loss had not fallen for {waited} times."
        if watch is not None and watch_every and trainer.losses and (step % watch_every == 0 or last):
            watch(result())
        if last:
            return ""
        loss = trainer.step()
        if callback is not None:
            callback(trainer.steps, settings.steps, loss)


def _verdict(trainer: TokenTrainer, validations: list[tuple[int, float]]) -> str:
    """A sentence where the loss rose instead of falling; the token is then the best one's."""
    if validations:
        first, last = validations[0][1], validations[-1][1]
    elif len(trainer.losses) >= 40:
        quarter = len(trainer.losses) // 4
        first, last = sum(trainer.losses[:quarter]) / quarter, sum(trainer.losses[-quarter:]) / quarter
    else:
        return ""
    if last <= 1.25 * first:
        return ""
    return (
        f"The loss rose from {first:.4f} to {last:.4f}: lower the rate or set a rho. The best token of the "
        "run is kept."
    )


def _without_momentum(result: TrainResult) -> TrainResult:
    """The result, to be resumed from its token's own vectors and not from the last step's."""
    return replace(result, token=replace(result.token, momentum={}, measured={}))


def _hand_over(on_stop: Callable[[TrainResult], None] | None, result: Callable[[], TrainResult]) -> None:
    if on_stop is None:
        return
    with logged("The token so far could not be kept."):
        stopped = result()
        # Before its first step a token holds nothing that was learnt.
        if stopped.losses:
            on_stop(stopped)


def _check(f_a: Tensor, images: Tensor, encoded: bool) -> None:
    if f_a.ndim != 1 or not torch.isfinite(f_a).all() or not f_a.any():
        raise InputError(
            f"The sound embedding of shape {list(f_a.shape)} is no vector with finite numbers: hear the "
            "sound again."
        )
    if images.ndim not in (4, 5) or not (encoded or images.shape[1] == 3):
        raise InputError(
            f"Reference pictures of shape {list(images.shape)} cannot be read: give [N, 3, height, width]."
        )
    if not len(images):
        raise InputError("There are no reference pictures: a sound token needs some, 3 to 5 or more.")
    if not torch.isfinite(images).all():
        raise InputError("A reference picture holds numbers that are not finite: leave it out.")
