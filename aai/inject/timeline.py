"""A sound in time: for every frame of a film the word that sounds, and how much of it shows.

The paper ends with one vector for a whole sound. Here every window of it has its own, a word lasts until
another one is heard for long enough, and eq. 8's scale follows the loudness of the moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import SILENCE_LUFS
from ..errors import InputError
from ..meter import MOMENTARY
from .loudness import scale_of
from .windows import SoundWindows

SLOWEST, FASTEST = 0.1, 60.0
"""Frames a second."""
SURE = 3.0
"""Nats by which a window may speak for one word against another at most: 95 %."""
TICK = 0.02
"""Seconds between the moments at which the envelope is followed, whatever the frame rate."""


@dataclass(frozen=True)
class Envelope:
    """How a film follows a sound.

    hold: seconds; a word that is heard for less gives way to those around it.
    attack, release: seconds in which the scale covers 63 % of its way up, and down, as a compressor's.
    threshold: LUFS below which nothing shows. gain: LU that are added to the loudness.
    reference: the LUFS that count as scale 1; None takes the sound's own loudness as a whole, so that a
    recording shows the same at any level.
    ratio: how many LU count as one, as a compressor's; 1 is eq. 8 to the letter, whose 8 to 1 between what is
    loud and what is quiet leaves pictures that show nothing or too much.

    Raises InputError for numbers out of range.
    """

    hold: float = 0.75
    attack: float = 0.05
    release: float = 0.4
    threshold: float = -60.0
    gain: float = 0.0
    reference: float | None = None
    ratio: float = 2.0

    def __post_init__(self) -> None:
        for name, most in (("hold", 60.0), ("attack", 60.0), ("release", 60.0)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise InputError(f"The {name} of {value:g} s is out of range: take 0 to {most:g} s.")
        levels = (self.threshold, self.gain, self.reference or 0.0)
        if not all(-100 <= level <= 100 for level in levels):
            raise InputError("The threshold, the gain and the reference are in LUFS: take -100 to 100.")
        if not 1 <= self.ratio <= 100:
            raise InputError(f"The ratio {self.ratio:g} is out of range: take 1 to 100 LU for one.")

    def scales(self, levels: np.ndarray, whole: float) -> np.ndarray:
        """Eq. 8's scale at each of these LUFS [T], of a sound that is as loud as `whole`."""
        reference = whole if self.reference is None else self.reference
        if reference == SILENCE_LUFS:
            return np.zeros(len(levels))
        pressed = np.where(levels >= self.threshold, (levels + self.gain - reference) / self.ratio, -np.inf)
        return np.array([scale_of(level, 0.0) for level in pressed.tolist()])


@dataclass(frozen=True, eq=False)
class Timeline:
    """T frames, `rate` a second; frame i is the sound around (i + 0.5) / rate seconds.

    words [T]: what is heard, "" for silence before any word and for what the encoder does not know.
    stretch [T]: the row of `f_a` that a frame draws; it stays after its word while the scale falls. -1 where
    nothing was heard yet. f_a [S, dim]: a stretch of frames with one word has one vector.
    loudness [T] in LUFS, -inf for silence. scale [T]: eq. 8's, 0 to 2.
    `windows` is what was heard, window by window. `new_scenes`: each stretch is a scene of its own.
    """

    rate: float
    words: tuple[str, ...]
    stretch: np.ndarray
    f_a: Tensor
    loudness: np.ndarray
    scale: np.ndarray
    windows: SoundWindows
    new_scenes: bool = False

    def __len__(self) -> int:
        return len(self.words)

    @property
    def times(self) -> np.ndarray:
        """The middle of every frame, in seconds."""
        return (np.arange(len(self)) + 0.5) / self.rate

    def shares(self, word: str) -> np.ndarray:
        """How much of a word every frame's sound is, [T] from 0 to 1. Raises InputError for a word that the
        encoder does not know."""
        labels = self.windows.labels
        if word not in labels:
            known = ", ".join(labels[:30])
            raise InputError(f"'{word}' is no word of the encoder '{self.windows.encoder}': take {known}.")
        own = self.windows.shares[:, labels.index(word)].float() * self.windows.known
        own = own.masked_fill(self.windows.silent, 0.0).numpy()
        return np.interp(self.times, _middles(self.windows), own)

    def rows(self) -> list[dict]:
        """Every frame as JSON takes it: its time, word, loudness (None for silence) and scale."""
        return [
            {
                "time": round(float(time), 4),
                "word": word,
                "lufs": None if level == SILENCE_LUFS else round(float(level), 2),
                "scale": round(float(scale), 4),
            }
            for time, word, level, scale in zip(self.times, self.words, self.loudness, self.scale)
        ]


def timeline(
    windows: SoundWindows, rate: float, envelope: Envelope | None = None, new_scenes: bool = False
) -> Timeline:
    """The frames of a sound at `rate` a second: as many as begin before it ends. Raises InputError as
    `check_rate` does."""
    check_rate(rate)
    envelope = envelope or Envelope()
    count = max(1, math.ceil(windows.seconds * rate - 1e-6))
    times = (np.arange(count) + 0.5) / rate
    labels = held_words(windows, envelope.hold)
    runs, f_a, run_words = _stretches(windows, labels)
    window_of = np.minimum((times / windows.hop).astype(int), len(labels) - 1)
    # A frame longer than a moment is as loud as all of it.
    loudness = windows.meter.loudness(times, max(MOMENTARY, 1 / rate))
    ticks = np.arange(TICK / 2, count / rate, TICK)
    at_tick = np.minimum((ticks / windows.hop).astype(int), len(labels) - 1)
    levels = windows.meter.loudness(ticks, max(MOMENTARY, 1 / rate))
    targets = np.where(runs[at_tick] >= 0, envelope.scales(levels, windows.meter.integrated()), 0.0)
    scale = np.interp(times, ticks, follow(targets, envelope.attack, envelope.release, 1 / TICK))
    words = tuple(run_words[run] if run >= 0 else "" for run in runs[window_of])
    return Timeline(rate, words, _carried(runs[window_of]), f_a, loudness, scale, windows, new_scenes)


def check_rate(rate: float) -> None:
    """Raises InputError for a rate outside of SLOWEST to FASTEST frames a second."""
    if not SLOWEST <= rate <= FASTEST:
        raise InputError(
            f"{rate:g} frames a second make no film: take {SLOWEST:g} to {FASTEST:g}, 8 for a first try."
        )


def held_words(windows: SoundWindows, hold: float) -> np.ndarray:
    """The label of every window [N]: the most likely sequence (Viterbi) in which each change costs as much
    as sure windows say in `hold` / 2 seconds, so that a shorter contradiction is overruled. Silent windows
    say nothing."""
    shares = windows.shares.float().clamp(min=1e-6).log()
    scores = (shares - shares.amax(1, keepdim=True)).clamp(min=-SURE)
    scores[windows.silent] = 0.0
    scores = scores.numpy()
    cost = SURE * hold / windows.hop / 2
    best, before = scores[0].copy(), np.zeros(scores.shape, dtype=np.int32)
    own = np.arange(scores.shape[1])
    for number in range(1, len(scores)):
        top = int(best.argmax())
        changes = best[top] - cost > best
        before[number] = np.where(changes, top, own)
        best = np.where(changes, best[top] - cost, best) + scores[number]
        best -= best.max()
    states = np.empty(len(scores), dtype=np.int64)
    state = int(best.argmax())
    for number in range(len(scores) - 1, -1, -1):
        states[number] = state
        state = int(before[number, state])
    return states


def follow(targets: Sequence[float], attack: float, release: float, rate: float) -> np.ndarray:
    """Values [T] at `rate` a second that follow their targets from 0: `attack` and `release` are the time
    constants in seconds of the way up and of the way down."""
    up, down = (math.exp(-1 / (seconds * rate)) if seconds > 0 else 0.0 for seconds in (attack, release))
    value, values = 0.0, np.empty(len(targets))
    for number, target in enumerate(np.asarray(targets, dtype=float).tolist()):
        value = target + (value - target) * (up if target > value else down)
        values[number] = value
    return values


def _stretches(windows: SoundWindows, labels: np.ndarray) -> tuple[np.ndarray, Tensor, list[str]]:
    """Each window's stretch [N], -1 where it is silent or unknown throughout, and of each stretch its vector
    [S, dim] and word."""
    stretch, vectors, words = np.full(len(labels), -1), [], []
    begins = np.flatnonzero(np.diff(labels, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(labels)]):
        speaks = ~windows.silent[begin:end]
        if not is_known(windows.known[begin:end][speaks], windows.threshold):
            continue
        # The windows that say the word say how it sounds; one at a cut hears two.
        weights = windows.shares[begin:end, labels[begin]].float() * windows.known[begin:end] * speaks
        stretch[begin:end] = len(vectors)
        vectors.append(_mean(windows.f_a[begin:end], weights))
        words.append(windows.labels[labels[begin]])
    dim = windows.f_a.shape[1]
    return stretch, torch.stack(vectors) if vectors else torch.zeros(0, dim), words


def is_known(known: Tensor, threshold: float) -> bool:
    """Whether a sound is known whose windows are so with these probabilities [N]: by the mean odds of the
    better half, since windows across a cut hear two sounds, and few have learnt what that is. On SoundWorld's
    windows of 2 s it refuses 11 % of what is known and 74 % of what is not; each window for itself 23 % and
    80 %."""
    if not len(known):
        return False
    known = known.clamp(1e-4, 1 - 1e-4)
    odds = (known / (1 - known)).log().topk((len(known) + 1) // 2).values.mean()
    return float(odds.sigmoid()) >= threshold


def _mean(f_a: Tensor, weights: Tensor) -> Tensor:
    """The mean direction of f_a [N, dim], as long as they are on average."""
    weights = weights / weights.sum().clamp(min=1e-12)
    return F.normalize(weights @ F.normalize(f_a, dim=-1), dim=0) * (weights @ f_a.norm(dim=-1))


def _carried(stretch: np.ndarray) -> np.ndarray:
    """Where nothing is known, the stretch before: its scale may still be falling."""
    last = np.maximum.accumulate(np.where(stretch >= 0, np.arange(len(stretch)), -1))
    return np.where(last >= 0, stretch[np.maximum(last, 0)], -1)


def _middles(windows: SoundWindows) -> np.ndarray:
    return (np.arange(len(windows.f_a)) + 0.5) * windows.hop
