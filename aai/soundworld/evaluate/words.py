"""What a word's weight does on SoundWorld's flow transformer, in figures, and what "(word:1.5)" in the prompt
does there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch

from ...inject.blend import positions_of
from ...inject.loudness import Reweight
from ...inject.words import WordScale, without_words
from ...metrics import Share
from ...picture.model import Conditioning, PictureModel
from ...prompt import Prompt
from ..oracle import Oracle
from .edits import GUIDANCE, SAMPLING_STEPS, SCALES

PROMPTS = (
    ("a city in heavy rain", "heavy rain", "rain", "city"),
    ("a village under rain", "rain", "rain", "village"),
    ("a city under thunder", "thunder", "thunder", "city"),
    ("a forest with fire", "fire", "fire", "forest"),
    ("fire in a desert", "fire", "fire", "desert"),
    ("a desert under wind", "wind", "wind", "desert"),
    ("fireworks over a beach", "fireworks", "fireworks", "beach"),
    ("a village with a dog", "dog", "dog", "village"),
    ("a photo of a dog in a forest", "dog", "dog", "forest"),
    ("a rooster in a village", "rooster", "rooster", "village"),
    ("a helicopter over a city", "helicopter", "helicopter", "city"),
    ("a beach with a clock", "clock", "clock", "beach"),
)
"""Prompts, the words that are weighed, and the event and the scene that they name."""

OURS, IN_THE_PROMPT = "the word's weight", "(word:weight) in the prompt"


def words(
    model: PictureModel, oracle: Oracle, seeds: Iterable[int], say: Callable[[str], None]
) -> dict[str, Share | float]:
    """Per way of weighing, at weights `SCALES`: Spearman of weight and strength, the intensity that the
    oracle measures of the word's event (0 where it sees another or none), mean of prompts and seeds; the
    range, strength at the largest weight less that at 0; at which weights the event is seen; and whether the
    scene is the prompt's."""
    from scipy.stats import spearmanr

    seeds, figures = list(seeds), {}
    for form, weighed in ((OURS, by_word), (IN_THE_PROMPT, in_the_prompt)):
        strengths, seen, scenes, orders = [], [], [], []
        for text, word, event, scene in PROMPTS:
            cond, control = weighed(model, text, word)
            latents = model.sample(
                cond, model.encode_prompt(Prompt("")), seeds=seeds, steps=SAMPLING_STEPS, guidance=GUIDANCE,
                edit=control,
            )  # fmt: skip
            for pictures in model.decode(latents).clamp(0, 1).unflatten(0, (-1, len(SCALES))):
                grades = oracle.grade(pictures)
                there = [found == event for found in grades.events]
                strength = [value if shown else 0.0 for shown, value in zip(there, grades.intensities)]
                strengths.append(strength)
                seen.append(there)
                scenes.append([found == scene for found in grades.scenes])
                orders.append(float(spearmanr(SCALES, strength).statistic) if len(set(strength)) > 1 else 0.0)
            mean = np.mean(strengths[-len(seeds) :], 0)
            say(f"{form}: {text}, {word}: {', '.join(f'{strength:.2f}' for strength in mean)}")
        figures[f"{form}: Spearman of weight and strength"] = float(np.mean(orders))
        figures[f"{form}: range of strength"] = float(np.mean([row[-1] - row[0] for row in strengths]))
        for scale, shown in zip(SCALES, zip(*seen)):
            figures[f"{form}: the event is seen at {scale:g}"] = Share(sum(shown), len(shown))
        kept = [scene for row in scenes for scene in row]
        figures[f"{form}: the scene is the prompt's"] = Share(sum(kept), len(kept))
    return figures


def by_word(model: PictureModel, text: str, word: str) -> tuple[Conditioning, Reweight]:
    """A prompt, and what weighs a word of it in a picture of each of `SCALES`."""
    cond, (shorter, _) = model.encode_prompt(Prompt(text)), without_words(Prompt(text), [word])
    without = {cond.token_ids[0]: model.encode_prompt(shorter)}
    return cond, Reweight(({},) * len(SCALES), (WordScale((word,), SCALES, without),))


def in_the_prompt(model: PictureModel, text: str, word: str) -> tuple[Conditioning, Reweight]:
    """The prompt as ComfyUI encodes "(word:weight)" for each of `SCALES`: the word's rows from the empty
    prompt's at their places (0) to their own (1) and beyond."""
    cond, empty = model.encode_prompt(Prompt(text)), model.encode_prompt(Prompt("")).cross
    places = list(positions_of(model.encode_prompt(Prompt(word)).token_ids[0], cond.token_ids[0], word))
    rows = cond.cross.repeat(len(SCALES), 1, 1)
    for row, scale in zip(rows, SCALES):
        row[places] = torch.lerp(empty[0, places], cond.cross[0, places], scale)
    return replace(cond, cross=rows, token_ids=cond.token_ids * len(SCALES)), Reweight(({},) * len(SCALES))
