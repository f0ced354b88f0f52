"""Films of stories whose sounds, cuts and loudness are known: what is heard, and what the frames show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...audio import SILENCE_LUFS, Sound, loudness
from ...inject.timeline import Timeline
from ...metrics import Share
from ..sounds import unseen_sound
from ..world import EVENTS

STORIES = 900_000
"""The first seed of the stories' sounds."""
FADE = 0.03
"""Seconds in which one sound gives way to the next, so that no cut clicks."""


@dataclass(frozen=True)
class Story:
    """A mono sound, and the events in it from `begins` [E] in seconds on."""

    sound: Sound
    events: tuple[str, ...]
    begins: tuple[float, ...]

    def event(self, time: float) -> str:
        return self.events[np.searchsorted(self.begins, time, side="right") - 1]

    def from_cut(self, time: float) -> float:
        """Seconds from the nearest cut; the ends are none."""
        return min((abs(time - begin) for begin in self.begins[1:]), default=np.inf)


def story(number: int) -> Story:
    """Three to five unseen synthesized sounds of 2.7 to 4.5 s, no two alike beside each other."""
    rng = np.random.default_rng([STORIES, number])
    parts, events, begins, length = [], [], [], 0
    for place in range(rng.integers(3, 6)):
        event = str(rng.choice([e for e in EVENTS if e not in events[-1:]]))
        part = unseen_sound(event, STORIES + 10 * number + place, float(rng.uniform(0.4, 1.0)))
        part = part.cut(0, float(rng.uniform(2.7, 4.5)))
        fade = torch.ones(part.waveform.shape[-1])
        ramp = torch.linspace(0, 1, int(FADE * part.rate))
        fade[: len(ramp)], fade[-len(ramp) :] = ramp, ramp.flip(0)
        begins.append(length / part.rate)
        parts.append(part.waveform * fade)
        events.append(event)
        length += part.waveform.shape[-1]
    return Story(Sound(torch.cat(parts, 1), part.rate), tuple(events), tuple(begins))


def heard(stories: Iterable[Story], timelines: Iterable[Timeline]) -> dict[str, Share | float]:
    """How often a frame's word is the sound's, of the frames that sound at all; and how a frame's loudness
    follows the truth, each part measured by itself."""
    from scipy.stats import spearmanr

    far, every, alike = [], [], []
    for told, timeline in zip(stories, timelines):
        measured, true = [], []
        for frame in sounding(timeline):
            time = timeline.times[frame]
            right = event_of(timeline.words[frame]) == told.event(time)
            every.append(right)
            if told.from_cut(time) > timeline.windows.window / 2:
                far.append(right)
            around = told.sound.cut(max(0.0, time - 0.2), 0.4)
            measured.append(timeline.loudness[frame])
            true.append(loudness(around))
        alike.append(float(spearmanr(measured, np.maximum(true, -70)).statistic))
    return {
        "the word of a frame more than half a window from a cut": Share(sum(far), len(far)),
        "the word of a frame": Share(sum(every), len(every)),
        "Spearman of a frame's loudness and the truth, mean of stories": float(np.mean(alike)),
    }


def sounding(timeline: Timeline) -> Iterator[int]:
    """The frames that are not silent."""
    return (number for number, level in enumerate(timeline.loudness) if level != SILENCE_LUFS)


def event_of(word: str) -> str:
    """The event that a label names: "a dog" is "dog"."""
    return word.removeprefix("a ")
