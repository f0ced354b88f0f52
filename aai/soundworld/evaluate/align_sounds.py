"""The sounds of the alignment study (`align_study.py`), and how its batches vary them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...align.augment import spec_augment
from ...align.train import Pairs
from ...audio import Sound, loudness
from ...fbank import EPSILON, fbank
from ..build.sound_encoder import CONFIG, nepers
from ..captions import level
from ..sounds import LOUDEST_LUFS, QUIETEST_LUFS, intensity_of, synthesize
from ..world import EVENTS

SILENCE_LOG_ENERGY = math.log(EPSILON)


@dataclass(frozen=True)
class Clips:
    """Sounds as log mel filter banks [N, frames, mel] (not normalised), event numbers [N], loudness [N] in
    LUFS."""

    fbanks: Tensor
    events: Tensor
    loudness: Tensor


def bank(sound: Sound) -> Tensor:
    """A sound's first seconds as CONFIG's encoder takes them: log mel energies [frames, mel], float16."""
    waveform = sound.mono().resample(CONFIG.rate).waveform[:, : int(CONFIG.seconds * CONFIG.rate)]
    return fbank(waveform, CONFIG.rate, CONFIG.mel_bins, CONFIG.frames)[0].half()


def synthetic_clips(count: int, seed: int) -> Clips:
    """`count` synthesized sounds, every event in turn, at random intensities."""
    fbanks, levels = [], []
    for i in range(count):
        intensity = float(np.random.default_rng([seed, i]).uniform(0.05, 1))
        sound = synthesize(EVENTS[i % len(EVENTS)], intensity, seed + i)
        fbanks.append(bank(sound))
        levels.append(loudness(sound))
    return Clips(torch.stack(fbanks), torch.arange(count) % len(EVENTS), torch.tensor(levels))


def batches(
    clips: Clips,
    text: Tensor,
    visual: Tensor,
    visual_labels: Tensor,
) -> Callable[[torch.Generator, int], Pairs]:
    """Batches for `align`: every event as often as another, at any loudness, varied and masked in part.

    A clip is set to a random loudness by adding to its log energies; its text and picture follow that
    loudness. `text` [events, levels, D]; `visual` [N, D] with `visual_labels` [N] = event * levels + level.
    """
    levels = text.shape[1]
    by_event = [(clips.events == event).nonzero()[:, 0] for event in range(len(EVENTS))]
    by_label = [(visual_labels == label).nonzero()[:, 0] for label in range(len(EVENTS) * levels)]

    def pick(rows: Tensor, generator: torch.Generator) -> int:
        return int(rows[torch.randint(len(rows), (), generator=generator)])

    def clip(event: int, generator: torch.Generator) -> Tensor:
        """A clip's log energies [frames, mel] at 0 LUFS."""
        row = pick(by_event[event], generator)
        return clips.fbanks[row].float() - nepers(max(float(clips.loudness[row]), -65.0))

    def batch(generator: torch.Generator, size: int) -> Pairs:
        events = torch.randint(len(EVENTS), (size,), generator=generator)
        first, second = (torch.stack([clip(int(e), generator) for e in events]) for _ in range(2))
        energies = vary(mix(first, second, generator), generator)
        wanted = QUIETEST_LUFS + (LOUDEST_LUFS - QUIETEST_LUFS) * (
            0.02 + 0.98 * torch.rand(size, generator=generator)
        )
        labels = torch.tensor(
            [int(e) * levels + level(intensity_of(float(w))) for e, w in zip(events, wanted)]
        )
        pictures = [pick(by_label[label], generator) for label in labels]
        fbanks = at_level(energies, wanted, generator)
        return Pairs(fbanks, text.flatten(0, 1)[labels], visual[pictures], labels)

    return batch


def at_level(energies: Tensor, decibels: Tensor, generator: torch.Generator) -> Tensor:
    """Log energies [B, frames, mel] raised by decibels [B], normalised as CONFIG says and masked in part."""
    floor = (SILENCE_LOG_ENERGY - CONFIG.fbank_mean) / CONFIG.fbank_std
    fbanks = (energies + nepers(decibels)[:, None, None]).clamp(min=SILENCE_LOG_ENERGY)
    return spec_augment((fbanks - CONFIG.fbank_mean) / CONFIG.fbank_std, generator, floor=floor)


def mix(first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
    """Log energies [B, frames, mel] mixed with more of the same and with something else behind them.

    A third of the clips are mixed with their `second`, of the same event, up to 6 dB below or
    above; half have another clip of the batch 5 to 30 dB behind them.
    """
    size = len(first)

    def behind(share: float, low: float, high: float) -> Tensor:
        level = nepers(low + (high - low) * torch.rand(size, generator=generator))
        level[torch.rand(size, generator=generator) >= share] = -math.inf
        return level[:, None, None]

    mixed = torch.logaddexp(first, second + behind(1 / 3, -6, 6))
    other = first[torch.randperm(size, generator=generator)]
    return torch.logaddexp(mixed, other + behind(1 / 2, -30, -5))


def vary(fbanks: Tensor, generator: torch.Generator) -> Tensor:
    """Log energies [B, frames, mel] as another microphone, room or animal would give: coloured by a smooth
    curve of 5 dB, played up to a fifth faster or slower, and up to 4 mel bins higher or lower."""
    size, frames, mel = fbanks.shape
    curve = nepers(5 * torch.randn(size, 1, 6, generator=generator))
    fbanks = fbanks + F.interpolate(curve, mel, mode="linear", align_corners=True)
    rate = 2 ** (0.26 * (2 * torch.rand(size, 1, generator=generator) - 1))
    times = (torch.arange(frames) * rate).long() % frames
    shift = torch.randint(-4, 5, (size, 1), generator=generator)
    bins = (torch.arange(mel) + shift).clamp(0, mel - 1)
    rows = torch.arange(size)[:, None, None]
    return fbanks[rows, times[:, :, None], bins[:, None, :]]
