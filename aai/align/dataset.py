"""Clips (`clips.py`) as stage 1's training data.

`split` holds some out, `encode` sends them through the frozen towers once, `batches` deals them out, and
`align_encoder` does the training with all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..fbank import EPSILON
from .cavmae import CAVMAE, CAVMAEConfig, pool
from .clips import Clip, File
from .encoder import CAVMAEEncoder
from .evaluate import Share, nearest_label
from .train import AlignResult, AlignSettings, Pairs, align, spec_augment


def split(clips: list[Clip], share: float = 0.2, seed: int = 0) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and `share` of every class held out; a class keeps at least one clip to train on."""
    generator = torch.Generator().manual_seed(seed)
    train, held_out = [], []
    for label in sorted({clip.label for clip in clips}):
        members = [clip for clip in clips if clip.label == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(round(share * len(members)), len(members) - 1)
        held_out += [members[i] for i in sorted(order[:count])]
        train += [members[i] for i in sorted(order[count:])]
    return train, held_out


@dataclass(frozen=True)
class Examples:
    """Clips as the frozen towers left them.

    `fbanks` [W, frames, mel], normalised, float16: every window of every clip; `f_v` [P, D]: every picture;
    `windows` and `pictures`: each clip's rows in them; `labels` [N]: each clip's number in `words`, whose
    vectors are `f_t` [L, D]. `tokens_v` [P, n, D], float16: the pictures for momentum "literal_shared".
    """

    fbanks: Tensor
    windows: tuple[Tensor, ...]
    f_v: Tensor
    pictures: tuple[Tensor, ...]
    labels: Tensor
    words: list[str]
    f_t: Tensor
    tokens_v: Tensor | None = None


@torch.no_grad()
def encode(
    encoder: CAVMAEEncoder,
    clips: list[Clip],
    vectors: Mapping[str, Tensor] | None = None,
    keep_tokens: bool = False,
    callback: Callable[[int, int], None] | None = None,
) -> Examples:
    """Sounds to filter banks, pictures to features, labels to text vectors: what training needs, once.

    `vectors` holds the text tower's vector [D] of every label; without it the encoder's own table serves.
    `keep_tokens` keeps what momentum "literal_shared" needs. `callback(clips done, clips)` may raise to stop.
    Raises InputError for a file that cannot be read and a label without a vector.
    """
    vectors = vectors if vectors is not None else dict(zip(encoder.labels, encoder.label_vectors))
    words = sorted({clip.label for clip in clips})
    unknown = [word for word in words if word not in vectors]
    if unknown:
        raise InputError(
            f"The label “{unknown[0]}” has no text vector: name its folder as one of "
            f"{', '.join(sorted(vectors)[:12])}, or give a text encoder."
        )
    fbanks, windows, f_v, tokens_v, pictures = [], [], [], [], []
    rows: dict[File, int] = {}
    heard = 0
    for done, clip in enumerate(clips):
        parts = encoder.fbanks(encoder.windows(clip.load_sound()))
        fbanks.append(parts.half().cpu())
        windows.append(torch.arange(heard, heard + len(parts)))
        heard += len(parts)
        for number, file in enumerate(clip.pictures):
            if file not in rows:
                rows[file] = len(rows)
                for part in encoder.image_batches(clip.load_picture(number)[None]):
                    tokens = encoder.model.visual_tokens(part)
                    f_v.append(F.normalize(pool(encoder.model.see(tokens)), dim=-1).cpu())
                    if keep_tokens:
                        tokens_v.append(tokens.half().cpu())
        pictures.append(torch.tensor([rows[file] for file in clip.pictures]))
        if callback:
            callback(done + 1, len(clips))
    return Examples(
        torch.cat(fbanks),
        tuple(windows),
        torch.cat(f_v),
        tuple(pictures),
        torch.tensor([words.index(clip.label) for clip in clips]),
        words,
        torch.stack([vectors[word].float().cpu() for word in words]),
        torch.cat(tokens_v) if keep_tokens else None,
    )


@dataclass(frozen=True)
class Augment:
    """How a training step changes what it hears.

    `hide` hides bands and spans and turns the clip in time (SpecAugment); `noise` adds CAV-MAE's noise;
    `gain` makes the clip louder or softer by up to so many dB. Leave it at 0 where the level means something:
    loudness is part of what an embedding says.
    """

    hide: bool = True
    noise: bool = False
    gain: float = 0.0

    def __call__(self, fbanks: Tensor, config: CAVMAEConfig, generator: torch.Generator) -> Tensor:
        """Normalised filter banks [B, frames, mel], changed."""
        floor = (math.log(EPSILON) - config.fbank_mean) / config.fbank_std
        batch = len(fbanks)
        if self.gain:
            decibels = self.gain * (2 * torch.rand(batch, 1, 1, generator=generator) - 1)
            # Log energies: 10 dB are a factor of 10.
            fbanks = (fbanks + decibels * math.log(10) / 10 / config.fbank_std).clamp(min=floor)
        if self.noise:
            strength = torch.rand(batch, 1, 1, generator=generator) / 10
            fbanks = fbanks + torch.rand(fbanks.shape, generator=generator) * strength
        return spec_augment(fbanks, generator, floor) if self.hide else fbanks


def batches(
    examples: Examples,
    config: CAVMAEConfig,
    augment: Augment | None = None,
    device: torch.device | str = "cpu",
) -> Callable[[torch.Generator, int], Pairs]:
    """Batches for `align`: different clips, of each a window and a picture at random."""

    def one_of(rows: Tensor, generator: torch.Generator) -> int:
        return int(rows[torch.randint(len(rows), (), generator=generator)])

    def batch(generator: torch.Generator, size: int) -> Pairs:
        clips = torch.randperm(len(examples.labels), generator=generator)[:size].tolist()
        heard = [one_of(examples.windows[i], generator) for i in clips]
        seen = [one_of(examples.pictures[i], generator) for i in clips]
        fbanks = examples.fbanks[heard].float()
        if augment:
            fbanks = augment(fbanks, config, generator)
        labels = examples.labels[clips]
        tokens = None if examples.tokens_v is None else examples.tokens_v[seen].float().to(device)
        return Pairs(
            fbanks.to(device),
            examples.f_t[labels].to(device),
            examples.f_v[seen].to(device),
            labels.to(device),
            tokens,
        )

    return batch


@torch.no_grad()
def label_accuracy(model: CAVMAE, examples: Examples) -> Share:
    """How many clips, each the mean of its windows, lie nearest to their own label's vector."""
    device = model.modality_a.device
    parts = [
        F.normalize(model.audio_features(part.float().to(device)), dim=-1).cpu()
        for part in examples.fbanks.split(16)
    ]
    features = torch.cat(parts)
    rows = torch.stack([features[windows].mean(0) for windows in examples.windows])
    return nearest_label(rows, examples.f_t, examples.labels)


def align_encoder(
    encoder: CAVMAEEncoder,
    examples: Examples,
    settings: AlignSettings,
    augment: Augment | None = None,
    held_out: Examples | None = None,
    callback: Callable[[int, int, dict], None] | None = None,
    measure_every: int = 100,
) -> AlignResult:
    """Stage 1 on an encoder, in place; its label table becomes the examples'.

    With `held_out` clips the weights that name most of them right are kept, also where `callback` raises to
    stop; without, the latest. Raises InputError for held-out clips of a class that is not trained on.
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

    encoder.labels, encoder.label_vectors = list(examples.words), F.normalize(examples.f_t, dim=-1)
    result = align(
        encoder.model,
        batches(examples, encoder.model.config, augment, encoder.device),
        settings,
        callback,
        measure,
        measure_every,
    )
    encoder.tau = result.tau
    return result
