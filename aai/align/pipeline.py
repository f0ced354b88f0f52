"""Stage 1 on a small folder, in memory and in one call: what a graph needs of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from ..data.clips import Clip, scan
from ..encoders.base import SoundEncoder
from ..encoders.cavmae import CAVMAE
from ..encoders.cavmae_encoder import CAVMAEEncoder
from ..encoders.text import TextTower, label_vectors
from ..errors import InputError
from ..metrics import Share, nearest_label
from .augment import Augment
from .batches import Batches
from .checkpoint import Checkpoint
from .distributed import ALONE, Distributed
from .features import Features, encode
from .settings import AlignSettings
from .train import AlignResult, align


def split(clips: list[Clip], share: float = 0.2, seed: int = 0) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and `share` of every class held out; a class keeps at least one clip to train on."""
    generator = torch.Generator().manual_seed(seed)
    train, held_out = [], []
    classes: dict[str, list[Clip]] = {}
    for clip in clips:
        classes.setdefault(clip.label, []).append(clip)
    for _, members in sorted(classes.items()):
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(round(share * len(members)), len(members) - 1)
        held_out += [members[i] for i in sorted(order[:count])]
        train += [members[i] for i in sorted(order[count:])]
    return train, held_out


@torch.no_grad()
def label_accuracy(model: CAVMAE, examples: Features) -> Share:
    """How many clips, each the mean of its windows, lie nearest to their own label's vector."""
    device = model.modality_a.device
    places = torch.tensor([row for own in examples.windows for row in own])
    # An hour of sound is hundreds of windows: they go in parts, whatever clip they are of.
    features = torch.cat(
        [
            F.normalize(model.audio_features(examples.fbanks[part.tolist()].float().to(device)), dim=-1).cpu()
            for part in places.split(64)
        ]
    )
    means = [part.mean(0) for part in features.split([len(own) for own in examples.windows])]
    return nearest_label(torch.stack(means), examples.f_t, examples.labels)


def align_encoder(
    encoder: CAVMAEEncoder,
    examples: Features,
    settings: AlignSettings,
    augment: Augment | None = None,
    held_out: Features | None = None,
    callback: Callable[[int, int, dict], None] | None = None,
    measure_every: int = 100,
    ranks: Distributed = ALONE,
    checkpoint: Checkpoint | None = None,
    on_stop: Callable[[AlignResult], None] | None = None,
) -> AlignResult:
    """Stage 1 on an encoder, in place; its label table becomes the examples'.

    With `held_out` clips the weights that name most of them right are kept, also where `callback` raises to
    stop; without, the latest. `ranks`, `checkpoint` and `on_stop` are as in `align`; when `on_stop` is
    called, the encoder is one that can be saved. Raises InputError for held-out clips of a class that is not
    trained on.
    """
    measure = None
    if held_out:
        strangers = sorted(set(held_out.words) - set(examples.words))
        if strangers:
            raise InputError(f"'{strangers[0]}' is held out but never trained on: give it clips to train on.")
        numbers = torch.tensor([examples.words.index(word) for word in held_out.words])
        # Every trained word is a candidate, whether or not a clip of it was held out.
        test = replace(held_out, words=examples.words, f_t=examples.f_t, labels=numbers[held_out.labels])

        def measure(model: CAVMAE) -> float:
            return label_accuracy(model, test).value

    def stopped(result: AlignResult) -> None:
        encoder.tau = result.tau
        if on_stop:
            on_stop(result)

    encoder.labels, encoder.label_vectors = list(examples.words), F.normalize(examples.f_t, dim=-1)
    result = align(
        encoder.model,
        Batches(examples, encoder.model.config, augment, encoder.device, ranks),
        settings,
        callback,
        measure,
        measure_every,
        ranks,
        checkpoint,
        stopped,
    )
    encoder.tau = result.tau
    return result


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
            f"'{encoder.name}' is no CAV-MAE, which alone is aligned this way: choose one, or bridge a CLAP."
        )
    if encoder.dim != tower.dim:
        raise InputError(
            f"'{encoder.name}' gives {encoder.dim} numbers, but the text encoder {tower.name} has vectors of "
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
