"""Stage 1 on a small folder, in memory and in one call: what a graph needs of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from .batches import Augment
from .cavmae import CAVMAE
from .clips import scan
from .dataset import align_encoder, label_accuracy, split
from .encoder import CAVMAEEncoder, SoundEncoder
from .evaluate import Share
from .examples import encode
from .text import TextTower, label_vectors
from .train import AlignResult, AlignSettings


@dataclass(frozen=True)
class Aligned:
    """What came of it: every step's loss, the step whose weights were kept, and how many held-out clips are
    named right before and after (None where none are held out)."""

    losses: list[float]
    step: int
    clips: int
    labels: int
    before: Share | None = None
    after: Share | None = None

    def __str__(self) -> str:
        text = f"{len(self.losses)} steps on {self.clips} clips of {self.labels} labels"
        if self.after is None:
            return text
        return (
            f"{text}; held-out clips named right: {self.before} before, {self.after} after (step {self.step})"
        )


def align_folder(
    encoder: SoundEncoder,
    tower: TextTower,
    folder: str | os.PathLike,
    settings: AlignSettings,
    held_out: float = 0.2,
    augment: Augment | None = None,
    name: str = "aligned",
    device: str = "cpu",
    encoding: Callable[[int, int], None] | None = None,
    callback: Callable[[int, int, float], None] | None = None,
    on_stop: Callable[[CAVMAEEncoder, int], None] | None = None,
) -> tuple[CAVMAEEncoder, Aligned]:
    """A new encoder, tuned on a folder of classes (`clips.scan`), on its split "train" where it has others
    too; the one that comes in stays as it is.

    held_out: the share of every class that is measured on; the weights that name most of it right are kept.
    `encoding(clips done, clips)` and `callback(step, steps, loss)` may raise to stop; `on_stop(encoder, steps
    done)` then gets the best so far, as it does where the training diverges. Raises InputError for an encoder
    that is no CAV-MAE or of another width than the tower's vectors, where the folder, its files or the
    settings are at fault, for a loss that is no number, and where memory runs out.
    """
    if not isinstance(encoder, CAVMAEEncoder):
        raise InputError(
            f"“{encoder.name}” is no CAV-MAE, which alone is aligned this way: choose one, or bridge a CLAP."
        )
    if encoder.dim != tower.dim:
        raise InputError(
            f"“{encoder.name}” gives {encoder.dim} numbers, but the text encoder {tower.name} has vectors of "
            f"{tower.dim}: choose two of one width (the public CAV-MAEs have 768)."
        )
    clips = scan(folder)
    if {"train"} < {clip.split for clip in clips}:
        clips = [clip for clip in clips if clip.split == "train"]
    train, test = split(clips, held_out, settings.seed) if held_out else (clips, [])
    words = sorted({clip.label for clip in clips})
    vectors = dict(zip(words, label_vectors(tower, words)))
    aligned = _twin(encoder, settings.momentum == "literal_shared", name)
    aligned.space = tower.name
    aligned.notes |= {"made_by": "Align Audio Encoder", "start": encoder.name}
    aligned.model.to(device)

    def told(begin: int) -> Callable[[int, int], None] | None:
        return encoding and (lambda done, _: encoding(begin + done, len(clips)))

    keep_tokens = settings.momentum == "literal_shared"
    examples = encode(aligned, train, vectors, keep_tokens, told(0))
    measured = encode(aligned, test, vectors, callback=told(len(train))) if test else None
    before = label_accuracy(aligned.model, measured) if measured else None
    losses: list[float] = []

    def step(done: int, total: int, figures: dict) -> None:
        losses.append(figures["loss"])
        if callback:
            callback(done, total, figures["loss"])

    def stopped(result: AlignResult) -> None:
        aligned.model.to(encoder.device)
        on_stop(aligned, len(result.curve))

    every = max(5, settings.steps // 10)
    result = align_encoder(
        aligned, examples, settings, augment, measured, step, every, on_stop=on_stop and stopped
    )
    after = label_accuracy(aligned.model, measured) if measured else None
    aligned.model.to(encoder.device)
    return aligned, Aligned(losses, result.step, len(train), len(words), before, after)


def _twin(encoder: CAVMAEEncoder, shared: bool, name: str) -> CAVMAEEncoder:
    """The same encoder with weights of its own."""
    model = CAVMAE(encoder.model.config)
    model.take({key: value.detach().clone() for key, value in encoder.model.state_dict().items()}, name)
    model = model.requires_grad_(False).to(encoder.device)
    return CAVMAEEncoder(
        model.shared() if shared else model,
        list(encoder.labels),
        encoder.label_vectors.clone(),
        encoder.tau,
        name,
        encoder.space,
        encoder.notes,
    )
