"""How well instant words draw: the adapter's, beside the sound alone (f_adapter = 0).

Trained tokens of the same sounds and seeds are what the part `tokens` measures.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...adapt.settings import TrainSettings
from ...adapt.train import train_token
from ...adapt.universal import SoundAdapter
from ...adapt.universal_file import load
from ...audio import Sound
from ...encoders.base import encode_sound
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...metrics import Share, nearest_label
from ...picture.model import PictureModel
from ...prompt import Prompt
from ...token import SoundToken
from ..library import references
from ..loaders import load_adapter
from ..oracle import Oracle
from ..sounds import unseen_sound
from ..world import EVENTS
from .hearing import windows_of
from .measure import INTENSITIES, draw_each

SEEDS = 30_000
"""Where the seeds of more unseen sounds begin: no other measurement has these."""
EACH = 8
"""Sounds of an event."""
WINDOW = 1.5
AT_A_LEVEL = 4
"""Pictures of a level of loudness."""
TRAINED = ("rain", "dog", "clock")
"""The events of which a token is trained from the instant one."""
STEPS, EVERY = 60, 10
"""Of the tokens that are trained from an instant one, and between two measurements of their loss."""

Figures = Iterator[tuple[str, Share | float]]


def adapter_of(encoder: CAVMAEEncoder, model: PictureModel, file: Path | None) -> SoundAdapter:
    """The adapter of a file, else the shipped one, which must go with both."""
    adapter = load_adapter(model) if file is None else load(file)
    adapter.check(encode_sound(encoder, unseen_sound("rain", 0)), model)
    return adapter


def measure(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    adapter: SoundAdapter,
    events: Sequence[str],
    sounds: Mapping[str, Sound],
    seeds: range,
) -> Figures:
    """Every figure of an adapter that has heard all events; `sounds` and `seeds` are those of `tokens`, and
    loudness is measured on `events`."""
    yield "seconds from sound to token", seconds(encoder, adapter, list(sounds.values()))
    rows = [(event, sound) for event, sound in sounds.items() for _ in seeds]
    for what, by in (("at once", adapter), ("f_adapter = 0", alone(adapter))):
        share = named(model, oracle, encoder, by, rows, list(seeds) * len(sounds))
        yield f"{what}, the sounds of tokens", share
    rows = unseen(EVENTS)
    yield f"at once, {len(rows)} other sounds", named(model, oracle, encoder, adapter, rows)
    parts = [(event, windows_of(sound, WINDOW)[0]) for event, sound in rows]
    yield f"at once, their first windows of {WINDOW} s", named(model, oracle, encoder, adapter, parts)
    f_a = encoder.embed([sound for _, sound in parts])
    truth = torch.tensor([EVENTS.index(event) for event, _ in parts])
    yield "these windows, heard right", nearest_label(f_a, encoder.label_vectors, truth)
    levels = {event: loudness(model, oracle, encoder, adapter, event) for event in events}
    for event, value in levels.items():
        yield f"at once, loudness; {event}", value
    yield "at once, loudness; mean", float(np.mean(list(levels.values())))
    yield from head_start(model, encoder, adapter, [sounds[event] for event in TRAINED]).items()


def without(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    adapter: SoundAdapter,
    events: Sequence[str],
    sounds: Mapping[str, Sound],
    seeds: range,
) -> Figures:
    """What an adapter draws of `events` that it has not heard."""
    for event in events:
        rows = unseen([event])
        for what, by in (("at once", adapter), ("f_adapter = 0", alone(adapter))):
            yield f"{what}, not heard in training: {event}", named(model, oracle, encoder, by, rows)


def unseen(events: Sequence[str]) -> list[tuple[str, Sound]]:
    """(event, sound) of EACH sounds of every event that nothing was trained on."""
    return [(event, unseen_sound(event, SEEDS + i)) for event in events for i in range(EACH)]


def alone(adapter: SoundAdapter) -> SoundAdapter:
    """The adapter with f_adapter = 0: the sound alone."""
    g = deepcopy(adapter.g)
    for head in g.heads.values():
        head.weight.zero_()
        head.bias.zero_()
    return replace(adapter, g=g)


def named(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    adapter: SoundAdapter,
    rows: Iterable[tuple[str, Sound]],
    seeds: Sequence[int] | None = None,
) -> Share:
    """The share of pictures, one of each sound, in which the oracle names its event; the seeds count up,
    where none are given."""
    events, sounds = zip(*rows)
    tokens = [adapter.token(encode_sound(encoder, sound).f_a) for sound in sounds]
    shown = oracle.grade(draw_each(model, photos(tokens), seeds or range(len(tokens)))).events
    return Share(sum(a == b for a, b in zip(events, shown)), len(events))


def photos(tokens: Iterable[SoundToken]) -> list[Prompt]:
    return [Prompt("a photo of *", (token,)) for token in tokens]


def loudness(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    adapter: SoundAdapter,
    event: str,
) -> float:
    """Spearman of five levels of one sound and the intensity that the oracle measures."""
    from scipy.stats import spearmanr

    seeds = range(AT_A_LEVEL)
    levels = [intensity for intensity in INTENSITIES for _ in seeds]
    heard = [encode_sound(encoder, unseen_sound(event, 700, intensity)).f_a for intensity in INTENSITIES]
    tokens = [token for f_a in heard for token in [adapter.token(f_a)] * len(seeds)]
    pictures = draw_each(model, photos(tokens), list(seeds) * len(INTENSITIES))
    return float(spearmanr(levels, oracle.grade(pictures).intensities).statistic)


def seconds(encoder: CAVMAEEncoder, adapter: SoundAdapter, sounds: Sequence[Sound]) -> float:
    """The median time from a sound to its token, its loudness and all."""
    taken = []
    for sound in sounds:
        begin = time.perf_counter()
        adapter.token(encode_sound(encoder, sound).f_a)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def head_start(
    model: PictureModel, encoder: CAVMAEEncoder, adapter: SoundAdapter, sounds: Sequence[Sound]
) -> dict[str, float]:
    """Validation losses, means over the sounds, of tokens trained from f_a and from the instant token, and
    after how many steps the second is as low as the first ever is (NaN: never)."""
    settings = TrainSettings(steps=STEPS, validate=EVERY)
    curves: dict[str, list[list[float]]] = {"from f_a": [], "from the instant token": []}
    for sound in sounds:
        f_a = encode_sound(encoder, sound).f_a
        pictures = references(f_a, encoder)[0]
        for what, begun in zip(curves, (None, adapter.token(f_a))):
            result = train_token(model, f_a, pictures, settings, resume=begun)
            curves[what].append([loss for _, loss in result.validations])
    means = {what: np.array(rows).mean(0) for what, rows in curves.items()}
    found = {
        f"validation loss {what}, after {i * EVERY} steps": float(loss)
        for what, curve in means.items()
        for i, loss in enumerate(curve)
    }
    plain, headed = means.values()
    reached = np.flatnonzero(headed <= plain.min())
    found["steps from f_a to its best"] = float(plain.argmin() * EVERY)
    found["steps from the instant token to that"] = (
        float(reached[0] * EVERY) if len(reached) else float("nan")
    )
    return found
