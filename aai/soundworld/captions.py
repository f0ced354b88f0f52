"""The words of SoundWorld: captions for its pictures and sounds.

A caption names an event, at a level or without one, in a scene or without one. The level words split an
intensity in (0, 1] into five equal steps. A `*` may stand for the event's whole phrase ("a photo of *"), so
that the models learn what a sound token is: one word that means a phrase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..encoders.cavmae_encoder import CAVMAEEncoder
from .world import EVENTS, SCENES

LEVELS = ("faint", "light", "moderate", "strong", "extreme")
LEVEL_SYNONYMS = {
    "faint": ("faint", "weak", "tiny"),
    "light": ("light", "soft", "small"),
    "moderate": ("moderate", "steady", "medium"),
    "strong": ("strong", "heavy", "loud", "big"),
    "extreme": ("extreme", "violent", "huge"),
}
NOUNS = {
    "rain": ("rain", "rain", "rainfall"),
    "thunder": ("thunder", "thunder", "lightning", "a thunderstorm"),
    "fire": ("fire", "fire", "flames"),
    "sea waves": ("sea waves", "sea waves", "waves"),
    "wind": ("wind", "wind", "gusts of wind"),
    "fireworks": ("fireworks",),
    "dog": ("a dog", "a dog", "a dog barking"),
    "rooster": ("a rooster", "a rooster", "a rooster crowing"),
    "helicopter": ("a helicopter",),
    "clock": ("a clock", "a clock", "a clock ticking"),
}
PREFIXES = ("a photo of ", "a photo of ", "a painting of ", "a sight of ", "a picture of ", "")
PLACED = (
    "{scene} under {event}",
    "{scene} with {event}",
    "{event} in {scene}",
    "{event} over {scene}",
    "{scene}, {event}",
)


def level(intensity: float) -> int:
    """The step 0..4 of an intensity in (0, 1]."""
    return min(int(intensity * 5), 4)


def phrase(event: str, intensity: float | None, rng: np.random.Generator | None = None) -> str:
    """An event in words, at a level where an intensity is given: "rain", "heavy rain", "a faint dog"."""
    noun = NOUNS[event][0] if rng is None else str(rng.choice(NOUNS[event]))
    if intensity is None:
        return noun
    word = LEVELS[level(intensity)]
    if rng is not None:
        word = str(rng.choice(LEVEL_SYNONYMS[word]))
    if noun.startswith("a "):
        article = "an" if word[0] in "aeiou" else "a"
        return f"{article} {word} {noun[2:]}"
    return f"{word} {noun}"


@dataclass(frozen=True)
class Caption:
    """A caption and what it says. `text` holds `*` where `word` is to stand as one token, when `starred`."""

    text: str
    scene: str | None
    event: str | None
    intensity: float | None
    word: str | None = None

    @property
    def starred(self) -> bool:
        return self.word is not None

    @property
    def plain(self) -> str:
        """The caption with the phrase written out."""
        return self.text.replace("*", self.word) if self.word else self.text


def caption(
    scene: str, event: str | None, intensity: float, rng: np.random.Generator, starred: float = 0.3
) -> Caption:
    """A random caption of a picture; with probability `starred` the event's phrase is one token, `*`."""
    prefix = str(rng.choice(PREFIXES))
    place = f"a {scene}"
    if event is None:
        return Caption(prefix + place, scene, None, None)
    stated = intensity if rng.random() < 0.7 else None
    words = phrase(event, stated, rng)
    word = words if rng.random() < starred else None
    shown = "*" if word else words
    if rng.random() < 0.35:
        return Caption(prefix + shown, None, event, stated, word)
    form = str(rng.choice(PLACED))
    return Caption(prefix + form.format(scene=place, event=shown), scene, event, stated, word)


def caption_of_several(
    scene: str, events: Mapping[str, float], rng: np.random.Generator, starred: float = 0.3
) -> tuple[str, tuple[str, ...]]:
    """A random caption of a picture of several events at their intensities, which it names in any order, and
    the phrases that are one token in it, `*`, in reading order; each is with probability `starred`."""
    shown, words = [], []
    for event in rng.permutation(list(events)):
        stated = events[event] if rng.random() < 0.7 else None
        words.append(phrase(str(event), stated, rng))
        shown.append("*" if rng.random() < starred else words[-1])
    starring = tuple(word for word, text in zip(words, shown) if text == "*")
    prefix, together = str(rng.choice(PREFIXES)), " and ".join(shown)
    if rng.random() < 0.2:
        return prefix + together, starring
    return prefix + str(rng.choice(PLACED)).format(scene=f"a {scene}", event=together), starring


def random_caption(rng: np.random.Generator, starred: float = 0.3) -> Caption:
    """A caption of a picture that is never drawn: what the text tower is trained on."""
    scene = str(rng.choice(SCENES))
    event = None if rng.random() < 0.08 else str(rng.choice(EVENTS))
    return caption(scene, event, float(rng.uniform(0.02, 1.0)), rng, starred)


def corpus() -> list[str]:
    """Every word of SoundWorld, with everyday words of prompts, for the tokenizer."""
    words: list[str] = []
    for event in EVENTS:
        words += [w for noun in NOUNS[event] for w in noun.split()]
    words += [w for group in LEVEL_SYNONYMS.values() for w in group]
    words += [*SCENES, *"an under with in over photo painting picture sight of a ,".split()]
    words += (
        "the and on at by from to style sky night day sun sunset storm sea water tree trees house "
        "street mountain river snow road bird car light dark red blue green yellow white black old "
        "new very color drawing watercolor"
    ).split()
    return words


def label_of(event: str, encoder: CAVMAEEncoder) -> str:
    """The encoder's label of an event: its name, with an article where it has one."""
    return next(label for label in encoder.labels if label.removeprefix("a ") == event)
