"""How well instant words draw: SoundWorld's universal adapter beside trained tokens and the sound alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...adapt.settings import TrainSettings
from ...adapt.train import train_token
from ...adapt.universal import SoundAdapter
from ...audio import Sound
from ...encoders.base import SoundEmbedding, encode_sound
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...metrics import Share
from ...picture.model import PictureModel, stacked
from ...prompt import Prompt
from ...token import SoundToken
from ..library import references
from ..oracle import Oracle
from ..sounds import unseen_sound
from .edits import GUIDANCE, SAMPLING_STEPS
from .hearing import windows_of
from .measure import INTENSITIES

SEEDS = 30_000
"""Where the unseen sounds' seeds begin: no other measurement has these."""
WINDOW = 1.5
TOGETHER = 20
"""Words whose pictures are drawn at a time."""

Word = Callable[[SoundEmbedding], SoundToken]


def unseen(events: Sequence[str], count: int) -> list[tuple[str, Sound]]:
    """(event, sound) of `count` sounds of each event that nothing was trained on."""
    return [(event, unseen_sound(event, SEEDS + i)) for event in events for i in range(count)]


def draw_each(model: PictureModel, tokens: Sequence[SoundToken], seeds: Sequence[int]) -> Tensor:
    """One picture of each token, each with its seed, [N, 3, H, W]."""
    uncond, drawn = model.encode_prompt(Prompt("")), []
    for begin in range(0, len(tokens), TOGETHER):
        part = slice(begin, begin + TOGETHER)
        rows = [model.encode_prompt(Prompt("a photo of *", (token,))) for token in tokens[part]]
        drawn.append(
            model.sample(
                stacked(rows), uncond, seeds=list(seeds[part]), steps=SAMPLING_STEPS, guidance=GUIDANCE
            )
        )
    return model.decode(torch.cat(drawn)).clamp(0, 1)


def named(
    model: PictureModel, oracle: Oracle, word: Word, heard: Iterable[tuple[str, SoundEmbedding]]
) -> tuple[Share, dict[str, list[str]]]:
    """The share of pictures in which the oracle names their sound's event, one of each sound; and what it
    names, by event."""
    rows = list(heard)
    pictures = draw_each(model, [word(sound) for _, sound in rows], range(len(rows)))
    events = oracle.grade(pictures).events
    seen: dict[str, list[str]] = {}
    for (event, _), shown in zip(rows, events):
        seen.setdefault(event, []).append(shown)
    hits = sum(shown == event for event, names in seen.items() for shown in names)
    return Share(hits, len(rows)), seen


def words(model: PictureModel, encoder: CAVMAEEncoder, adapter: SoundAdapter, steps: int) -> dict[str, Word]:
    """The three ways to a word: at once, trained, and the sound alone."""
    alone = without(adapter)

    def trained(sound: SoundEmbedding) -> SoundToken:
        pictures = references(sound.f_a, encoder)[0]
        return train_token(model, sound.f_a, pictures, TrainSettings(steps=steps)).token

    return {
        "at once": lambda sound: adapter.token(sound.f_a),
        "f_adapter = 0": lambda sound: alone.token(sound.f_a),
        f"a token of {steps} steps": trained,
    }


def without(adapter: SoundAdapter) -> SoundAdapter:
    """The adapter with f_adapter = 0."""
    from copy import deepcopy

    g = deepcopy(adapter.g)
    for head in g.heads.values():
        head.weight.zero_()
        head.bias.zero_()
    return replace(adapter, g=g)


def hear_windows(
    encoder: CAVMAEEncoder, sounds: Iterable[tuple[str, Sound]]
) -> list[tuple[str, SoundEmbedding]]:
    """A window of each sound, the first that is no pause."""
    return [(event, encode_sound(encoder, windows_of(sound, WINDOW)[0])) for event, sound in sounds]


def loudness(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    word: Word,
    events: Sequence[str],
    seeds: int,
) -> dict[str, float]:
    """Per event, Spearman of five levels of one sound and the intensity that the oracle measures."""
    from scipy.stats import spearmanr

    found = {}
    for event in events:
        levels, tokens = [], []
        for intensity in INTENSITIES:
            token = word(encode_sound(encoder, unseen_sound(event, 700, intensity)))
            levels += [intensity] * seeds
            tokens += [token] * seeds
        pictures = draw_each(model, tokens, list(range(seeds)) * len(INTENSITIES))
        found[event] = float(spearmanr(levels, oracle.grade(pictures).intensities).statistic)
    return found


def seconds(encoder: CAVMAEEncoder, adapter: SoundAdapter, sounds: Sequence[Sound]) -> float:
    """The median time from a sound to its token, hearing and all."""
    taken = []
    for sound in sounds:
        begin = time.perf_counter()
        adapter.token(encode_sound(encoder, sound).f_a)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def head_start(
    model: PictureModel,
    encoder: CAVMAEEncoder,
    adapter: SoundAdapter,
    sounds: Sequence[Sound],
    steps: int = 60,
    every: int = 10,
) -> Mapping[str, float]:
    """Validation losses, each a mean over the sounds: of tokens trained from f_a and from the instant token,
    at the beginning, at the end, and after how many steps the second is where the first ends."""
    rows = {"from f_a": [], "from the instant token": []}
    settings = TrainSettings(steps=steps, validate=every)
    for sound in sounds:
        f_a = encode_sound(encoder, sound).f_a
        pictures = references(f_a, encoder)[0]
        for what, begun in (("from f_a", None), ("from the instant token", adapter.token(f_a))):
            result = train_token(model, f_a, pictures, settings, resume=begun)
            rows[what].append([loss for _, loss in result.validations])
    curves = {what: np.array(losses).mean(0) for what, losses in rows.items()}
    wanted = curves["from f_a"].min()
    reached = np.flatnonzero(curves["from the instant token"] <= wanted)
    found = {f"{what}, {place}": float(curve[i]) for what, curve in curves.items() for place, i in
             (("before", 0), (f"after {steps} steps", -1))}  # fmt: skip
    found["steps of the second to the best loss of the first"] = (
        float(reached[0] * every) if len(reached) else float("nan")
    )
    return found
