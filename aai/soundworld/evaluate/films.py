"""Films of stories whose sounds, cuts and loudness are known: what is heard, and what the frames show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...audio import SILENCE_LUFS, Sound, load, loudness
from ...charts import Cell, Row, contact_sheet, save
from ...inject.film import WordOf, chunk_edit, chunks, plan, words_of
from ...inject.timeline import Timeline
from ...metrics import Share
from ...picture.model import PictureModel
from ..oracle import CALM, Grades, Oracle
from ..sounds import unseen_sound
from ..world import EVENTS, SCENES
from .edits import draw_edit, similarity_outside

STORIES = 900_000
"""The first seed of the stories' sounds."""
FADE = 0.03
"""Seconds in which one sound gives way to the next, so that no cut clicks."""

CLEAR = 0.75
"""The scale from which on a frame should show its sound: below, little of it may be there, and rightly."""
FILM_WINDOW = (0.0, 0.4)
"""SoundWorld's cross-attention window for films, whose events may cross the whole scene (`edits`)."""
CHUNK, ACROSS = 8, 10
STRUNG, RATE = 4, 16000
"""How many recordings make a story, and its samples a second."""
AROUND = 0.4
"""Seconds around a frame of which the true loudness is measured: a block of BS.1770."""


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
    parts: list[tuple[str, Sound]] = []
    for place in range(rng.integers(3, 6)):
        event = str(rng.choice([e for e in EVENTS if e not in [before for before, _ in parts[-1:]]]))
        part = unseen_sound(event, STORIES + 10 * number + place, float(rng.uniform(0.4, 1.0)))
        parts.append((event, part.cut(0, float(rng.uniform(2.7, 4.5)))))
    return strung(parts)


def recorded(recordings: Sequence[tuple[str, Path]], number: int) -> Story:
    """Four whole recordings, of these (event, file), no two alike beside each other."""
    rng = np.random.default_rng([STORIES, number])
    parts: list[tuple[str, Sound]] = []
    for _ in range(STRUNG):
        others = [one for one in recordings if one[0] not in [before for before, _ in parts[-1:]]]
        event, path = others[rng.integers(len(others))]
        parts.append((event, load(path).mono().resample(RATE)))
    return strung(parts)


def strung(parts: Sequence[tuple[str, Sound]]) -> Story:
    """Sounds of one rate, one after the other, as the story of their events."""
    waveforms, begins, length = [], [], 0
    for _, part in parts:
        fade = torch.ones(part.waveform.shape[-1])
        ramp = torch.linspace(0, 1, int(FADE * part.rate))
        fade[: len(ramp)], fade[-len(ramp) :] = ramp, ramp.flip(0)
        begins.append(length / part.rate)
        waveforms.append(part.waveform * fade)
        length += part.waveform.shape[-1]
    events = tuple(event for event, _ in parts)
    return Story(Sound(torch.cat(waveforms, 1), parts[0][1].rate), events, tuple(begins))


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
            # The last frame's middle may lie behind the sound's end.
            begin = max(0.0, min(time - AROUND / 2, told.sound.seconds - AROUND))
            around = told.sound.cut(begin, AROUND)
            measured.append(timeline.loudness[frame])
            true.append(loudness(around))
        alike.append(float(spearmanr(measured, np.maximum(true, -70)).statistic))
    return {
        "the word of a frame more than half a window from a cut": Share(sum(far), len(far)),
        "the word of a frame": Share(sum(every), len(every)),
        "Spearman of a frame's loudness and the truth, mean of stories": float(np.mean(alike)),
    }


def drawn(
    model: PictureModel,
    oracle: Oracle,
    stories: Iterable[Story],
    timelines: Iterable[Timeline],
    word_of: WordOf,
    say: Callable[[str], None],
    sheets: Path | None = None,
) -> dict[str, Share | float]:
    """What the films of stories show, each of one scene: the event, whether the scene stays, how its
    intensity follows the loudness, and how steady it is where the sound is."""
    from scipy.stats import spearmanr

    shown, strong, scenes = [], [], []
    follows, lags, steady = [], [], []
    for number, (told, timeline) in enumerate(zip(stories, timelines)):
        # On a beach the sea changes nothing.
        places = [scene for scene in SCENES if scene != "beach" or "sea waves" not in told.events]
        scene = places[number % len(places)]
        pictures = film(model, timeline, scene, word_of)
        grades = oracle.grade(pictures)
        frames = list(sounding(timeline))
        right = [grades.events[f] == told.event(timeline.times[f]) for f in frames]
        shown += right
        strong += [r for r, f in zip(right, frames) if timeline.scale[f] >= CLEAR]
        scenes += [seen == scene for seen in grades.scenes]
        seen = np.array([0.0 if e == CALM else i for e, i in zip(grades.events, grades.intensities)])
        levels = np.maximum(timeline.loudness, -70)
        follows.append(float(np.nan_to_num(spearmanr(seen, levels).statistic)))
        lags.append(abs(_lag(seen, levels)))
        calm = np.abs(np.diff(levels)) < 1
        same = np.diff(timeline.stretch) == 0
        steady += [
            similarity_outside(pictures[f], pictures[f + 1], torch.zeros(64, 64))
            for f in np.flatnonzero(calm & same)
        ]
        say(f"film {number}: {scene}, {', '.join(told.events)}; right in {sum(right)} of {len(right)} frames")
        if sheets is not None:
            save(_sheet(told, timeline, pictures, grades), sheets / f"film_{number}.png")
    return {
        "films: the oracle's event is the frame's sound": Share(sum(shown), len(shown)),
        f"films: the same, of frames at scale {CLEAR:g} and more": Share(sum(strong), len(strong)),
        "films: the scene stays": Share(sum(scenes), len(scenes)),
        "films: Spearman of intensity and loudness, mean": float(np.mean(follows)),
        "films: frames by which intensity lags, most": float(max(lags)),
        "films: SSIM of neighbours in steady parts": float(np.mean(steady)) if steady else float("nan"),
    }


def film(model: PictureModel, timeline: Timeline, scene: str, word_of: WordOf) -> Tensor:
    """The frames [T, 3, H, W] of a scene with what sounds."""
    token_of, planned = words_of(timeline, word_of), plan(timeline)
    source, pictures = None, []
    for chunk in chunks(planned.drawn, CHUNK):
        edit = chunk_edit(f"a {scene}", f"a {scene} with *", chunk, token_of, cross_window=FILM_WINDOW)
        source, *others = draw_edit(model, edit, [0])[0]
        pictures += others
    return torch.stack([pictures[number] if number >= 0 else source for number in planned.frames])


def _lag(seen: np.ndarray, levels: np.ndarray, most: int = 4) -> int:
    """The shift in frames at which what is seen follows the loudness best."""
    a, b = (x - x.mean() for x in (seen, levels))

    def agree(shift: int) -> float:
        return float(
            np.dot(a[max(shift, 0) : len(a) + min(shift, 0)], b[max(-shift, 0) : len(b) - max(shift, 0)])
        )

    return max(range(-most, most + 1), key=lambda shift: (agree(shift), -abs(shift)))


def _sheet(told: Story, timeline: Timeline, pictures: Tensor, grades: Grades):
    cells = [
        Cell([picture], f"{word or '-'} {scale:.2f} / {seen}")
        for picture, word, scale, seen in zip(pictures, timeline.words, timeline.scale, grades.events)
    ]
    rows = [
        Row(f"{timeline.times[i]:.1f} s", cells[i : i + ACROSS], told.event(timeline.times[i]))
        for i in range(0, len(cells), ACROSS)
    ]
    return contact_sheet("A film of a story", ", ".join(told.events), rows)


def sounding(timeline: Timeline) -> Iterator[int]:
    """The frames that are not silent."""
    return (number for number, level in enumerate(timeline.loudness) if level != SILENCE_LUFS)


def event_of(word: str) -> str:
    """The event that a label names: "a dog" is "dog"."""
    return word.removeprefix("a ")
