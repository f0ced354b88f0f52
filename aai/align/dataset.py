"""Clips (`clips.py`) as stage 1's training data.

`split` holds some out, `examples.encode` sends them through the frozen towers once, `Batches` deals them out,
and `align_encoder` does the training with all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F

from ..errors import InputError
from .batches import Augment, Batches
from .cavmae import CAVMAE
from .clips import Clip
from .encoder import CAVMAEEncoder
from .evaluate import Share, nearest_label
from .examples import Examples
from .ranks import ALONE, Ranks
from .resume import Checkpoint
from .train import AlignResult, AlignSettings, align


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
def label_accuracy(model: CAVMAE, examples: Examples) -> Share:
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
    examples: Examples,
    settings: AlignSettings,
    augment: Augment | None = None,
    held_out: Examples | None = None,
    callback: Callable[[int, int, dict], None] | None = None,
    measure_every: int = 100,
    ranks: Ranks = ALONE,
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
            raise InputError(f"“{strangers[0]}” is held out but never trained on: give it clips to train on.")
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
