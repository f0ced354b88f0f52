"""How well SoundWorld's encoder hears: recordings that it was not trained on, short windows, mixtures, and
sounds that it has no word for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...audio import Sound, from_tensor, loudness
from ...audio import load as load_sound
from ...encoders.apart import take_apart
from ...encoders.base import nearest_words
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...errors import InputError
from ...metrics import Share, auroc, auroc_interval, calibration_error, nearest_label
from .. import esc10
from ..captions import label_of
from ..outside import KINDS, synthesize_outside
from ..sounds import UNSEEN, at_once, synthesize, unseen_sound
from ..synthesis import at_loudness
from ..world import EVENTS

WINDOWS = (1.0, 1.5, 2.0, 5.0)
QUIET_BELOW = 15.0
"""LU below the whole clip at which a window is a pause of it, and names nothing."""


def name_synthetic(encoder: CAVMAEEncoder, count: int = 200) -> Share:
    truth = torch.arange(count) % len(EVENTS)
    embeddings = torch.cat([encoder.embed([unseen_sound(EVENTS[i % len(EVENTS)], i)]) for i in range(count)])
    return nearest_label(embeddings, encoder.label_vectors, truth)


def recordings_of(folder: Path, fold: int) -> list[tuple[str, Path]]:
    """(event, path) of every recording of a fold whose class SoundWorld has.

    Raises InputError where there are none.
    """
    recordings = list(esc10.recordings(folder, (fold,)))
    if not recordings:
        raise InputError(f"'{folder}' holds no recordings of fold {fold}: give ESC-10's folder of classes.")
    return recordings


def name_recordings(
    encoder: CAVMAEEncoder, recordings: list[tuple[str, Path]], seconds: float | None = None
) -> Share:
    """The recordings whose own word is the nearest; with `seconds`, their windows that are no pause."""
    sounds, truth = [], []
    for event, path in recordings:
        parts = windows_of(load_sound(path), seconds) if seconds else [load_sound(path)]
        sounds += parts
        truth += [encoder.labels.index(label_of(event, encoder))] * len(parts)
    embeddings = torch.cat([encoder.embed([sound]) for sound in sounds])
    return nearest_label(embeddings, encoder.label_vectors, torch.tensor(truth))


def windows_of(sound: Sound, seconds: float) -> list[Sound]:
    """A sound's consecutive whole windows that are less than QUIET_BELOW below all of it; of a shorter one,
    itself."""
    size, whole = round(seconds * sound.rate), loudness(sound)
    parts = [
        from_tensor(part, sound.rate) for part in sound.waveform.split(size, dim=-1) if part.shape[-1] == size
    ]
    return [part for part in parts if loudness(part) > whole - QUIET_BELOW] or [sound]


def known_scores(encoder: CAVMAEEncoder, paths: list[Path]) -> Tensor:
    """The probability [N] that recordings are known."""
    return torch.cat([encoder.known.probability(encoder.embed([load_sound(path)])) for path in paths])


def strangers(
    encoders: Mapping[int, CAVMAEEncoder], recordings: Path
) -> tuple[float, tuple[float, float], Share, Share]:
    """Known or not, each fold by the encoder that was trained without it: AUROC and its interval; the known
    recordings refused at the encoders' thresholds; the strangers called unknown there.

    AUROC is over all folds' probabilities together.
    """
    inside, outside, refused, told = [], [], [], []
    for fold, encoder in encoders.items():
        known = known_scores(encoder, [path for _, path in recordings_of(recordings, fold)])
        stranger = known_scores(encoder, esc10.strangers(recordings, fold))
        inside.append(known)
        outside.append(stranger)
        refused.append(known < encoder.known.threshold)
        told.append(stranger < encoder.known.threshold)
    known, stranger = torch.cat(inside), torch.cat(outside)
    shares = (Share(int(torch.cat(rows).sum()), len(torch.cat(rows))) for rows in (refused, told))
    return auroc(known, stranger), auroc_interval(known, stranger), *shares


def synthesized_strangers(encoder: CAVMAEEncoder, count: int = 140) -> tuple[float, Share]:
    """Unseen synthesized sounds of no word: AUROC against as many of the world's, and how many are called
    unknown."""
    kinds = list(KINDS)
    outside = [synthesize_outside(kinds[i % len(kinds)], UNSEEN + i) for i in range(count)]
    inside = [unseen_sound(EVENTS[i % len(EVENTS)], i) for i in range(count)]
    scores = [
        torch.cat([encoder.known.probability(encoder.embed([sound])) for sound in sounds])
        for sounds in (inside, outside)
    ]
    return auroc(*scores), Share(int((scores[1] < encoder.known.threshold).sum()), count)


def calibration(encoder: CAVMAEEncoder, count: int = 200) -> float:
    """The expected calibration error of the first word's score on unseen synthesized sounds."""
    confidence, right = [], []
    for i in range(count):
        event = EVENTS[i % len(EVENTS)]
        (near,) = nearest_words(encoder, encoder.embed([unseen_sound(event, i)]), 1)
        word, score = near.words[0]
        confidence.append(score)
        right.append(word == label_of(event, encoder))
    return calibration_error(torch.tensor(confidence), torch.tensor(right))


def mixture(first: str, second: str, decibels: float, seed: int) -> Sound:
    """Two unseen sounds at once, the second so many dB below the first, at the loudness of the first."""
    return mixed(first, second, decibels, seed)[0]


def mixed(first: str, second: str, decibels: float, seed: int) -> tuple[Sound, tuple[float, float]]:
    """A mixture, and the loudness of each of its two sounds in it, in LUFS."""
    louder, softer = (
        synthesize(event, 0.6, UNSEEN + 50_000 + 2 * seed + i) for i, event in enumerate((first, second))
    )
    level, (both,) = loudness(louder), at_once(louder, softer, decibels).waveform
    made = at_loudness(both.double().numpy(), level, louder.rate)
    # What at_loudness has made of both: a gain, but for crests that it limits.
    gain = 20 * math.log10(float(made.waveform[0] @ both / (both @ both)))
    return made, (level + gain, level - decibels + gain)


def mixtures(encoder: CAVMAEEncoder, count: int = 200) -> tuple[Share, Share, Share]:
    """Mixtures of two unseen events 0 to 12 dB apart: the louder is the first word, of all and of those 6 dB
    apart and more; the other is among the next two words."""
    rng = np.random.default_rng(UNSEEN)
    louder, far, other = [], [], []
    for seed in range(count):
        first, second = (str(event) for event in rng.choice(EVENTS, 2, replace=False))
        decibels = 12 * (seed + 0.5) / count
        (near,) = nearest_words(encoder, encoder.embed([mixture(first, second, decibels, seed)]), 3)
        words = [word for word, _ in near.words]
        louder.append(words[0] == label_of(first, encoder))
        other.append({label_of(first, encoder), label_of(second, encoder)} <= set(words))
        if decibels >= 6:
            far.append(louder[-1])
    return Share(sum(louder), count), Share(sum(far), len(far)), Share(sum(other), count)


def taken_apart(encoder: CAVMAEEncoder, count: int = 200, alone: int = 50) -> dict[str, Share | float]:
    """The mixtures of `mixtures`, each taken apart into up to two sounds: both named, one at least; where
    both are, how far the loudness of each part is from the truth, and how many parts' f_a have their own word
    as the nearest; and sounds that are alone of which a second one is told."""
    rng = np.random.default_rng(UNSEEN)
    both, one, second, near, errors, quiet = [], [], [], [], [], []
    for seed in range(count):
        events = [str(event) for event in rng.choice(EVENTS, 2, replace=False)]
        sound, levels = mixed(*events, 12 * (seed + 0.5) / count, seed)
        truth = {label_of(event, encoder): level for event, level in zip(events, levels)}
        parts = take_apart(encoder, sound, 2)
        right = [part for part in parts if part.word in truth]
        both.append(len(right) == 2)
        one.append(bool(right))
        if seed >= count // 2:
            second.append(both[-1])
        if len(right) < 2:
            continue
        quietest = min(truth, key=truth.get)
        for part in right:
            errors.append(abs(part.embedding.loudness - truth[part.word]))
            quiet += [errors[-1]] if part.word == quietest else []
            (nearest,) = nearest_words(encoder, part.embedding.f_a[None], 1)
            near.append(nearest.words[0][0] == part.word)
    doubled = [
        len(take_apart(encoder, unseen_sound(EVENTS[i % len(EVENTS)], 7000 + i), 2)) > 1 for i in range(alone)
    ]
    return {
        "both named": Share(sum(both), count),
        "both named, 6 dB apart and more": Share(sum(second), len(second)),
        "one at least named": Share(sum(one), count),
        "loudness off, LU, median": float(np.median(errors)) if errors else float("nan"),
        "loudness off, LU, median of the quieter": float(np.median(quiet)) if quiet else float("nan"),
        "f_a has its own word": Share(sum(near), len(near)),
        "alone, but told as two": Share(sum(doubled), alone),
    }
