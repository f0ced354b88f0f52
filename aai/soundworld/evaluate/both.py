"""The picture of two sounds at once: a mixture is taken apart, each sound becomes a word by the adapter, both
words stand in one prompt, or each in a prompt of its own that draws its place; and an oracle that names
several events reads the picture.

Beside it stands what bounds it: captions of two events are what the picture models can draw, rendered
pictures what the oracle reads, and a picture of each sound alone what the words say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ...adapt.universal import SoundAdapter
from ...encoders.apart import take_apart
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...inject.edit_run import EditRun
from ...inject.loudness import Reweight
from ...metrics import Share
from ...picture.model import PictureModel
from ...prompt import Prompt
from ..captions import label_of, phrase
from ..oracle import EventsOracle
from ..pictures import render_events
from ..sounds import UNSEEN
from ..world import EVENTS, SCENES, placed
from .hearing import mixed
from .measure import draw_each

SEEDS = 60_000
"""Where the seeds of these mixtures begin: no other measurement has these."""
INTENSITY = 0.7

FADED = 0.75
"""The share of a picture's height over which the upper word gives way to the lower, as in the template of two
sounds."""

Figures = Iterator[tuple[str, Share]]


def both(
    model: PictureModel,
    oracle: EventsOracle,
    encoder: CAVMAEEncoder,
    adapter: SoundAdapter,
    count: int = 60,
) -> Figures:
    """Of mixtures of two unseen events 0 to 12 dB apart, the pictures that show both; for pairs of which one
    event is above and one below, those where each word draws its part of one picture, and where it draws a
    picture of its own, which is the most that one may show; the same as the first with the events' phrases in
    place of the sounds' words; and rendered pictures, which is the oracle's own share."""
    rng = np.random.default_rng(UNSEEN + SEEDS)
    pairs = [tuple(str(event) for event in rng.choice(EVENTS, 2, replace=False)) for _ in range(count)]
    scenes = [SCENES[i % len(SCENES)] for i in range(count)]
    spoken = [
        Prompt(f"a {scene} with {phrase(first, INTENSITY)} and {phrase(second, INTENSITY)}")
        for scene, (first, second) in zip(scenes, pairs)
    ]
    above = {event for event in EVENTS if "under" in placed("", event)}
    sky = {label_of(event, encoder) for event in above}
    prompts, halves = [], []
    for i, (scene, pair) in enumerate(zip(scenes, pairs)):
        sound, _ = mixed(*pair, 12 * (i + 0.5) / count, SEEDS + i)
        parts = take_apart(encoder, sound, 2)
        tokens = tuple(
            adapter.token(part.embedding.f_a, name=f"sound{number}") for number, part in enumerate(parts)
        )
        words = " and ".join(f"<{token.name}>" for token in tokens)
        prompts.append((Prompt(f"a {scene} with {words}", tokens), {part.word for part in parts}))
        by_place = sorted(zip(parts, tokens), key=lambda one: one[0].word not in sky)
        halves.append([Prompt(f"a {scene} with *", (token,)) for _, token in (by_place[0], by_place[-1])])
    named = [heard == {label_of(e, encoder) for e in pair} for (_, heard), pair in zip(prompts, pairs)]
    yield "both heard", Share(sum(named), count)
    one_prompt = draw_each(model, [prompt for prompt, _ in prompts], range(count))
    placeable = [i for i, pair in enumerate(pairs) if len(above & set(pair)) == 1]
    in_halves = draw_in_places(model, [halves[i] for i in placeable], placeable)
    for what, pictures, rows in (
        ("words of the sounds", one_prompt, range(count)),
        ("words of the sounds, one above and one below", in_halves, placeable),
    ):
        shown = dict(zip(rows, oracle.events(pictures)))
        yield from shares(what, list(shown.values()), [pairs[i] for i in rows])
        if right := [i for i in rows if named[i]]:
            yield from shares(f"{what}, both heard", [shown[i] for i in right], [pairs[i] for i in right])
    single = [prompt for i in placeable for prompt in halves[i]]
    apart = oracle.events(draw_each(model, single, [i for i in placeable for _ in range(2)]))
    either = [upper | lower for upper, lower in zip(apart[::2], apart[1::2])]
    yield from shares("the same pairs, a picture of each", either, [pairs[i] for i in placeable])
    yield from shares("phrases", oracle.events(draw_each(model, spoken, range(count))), pairs)
    rendered = [
        render_events(scene, dict.fromkeys(pair, INTENSITY), SEEDS + i)
        for i, (scene, pair) in enumerate(zip(scenes, pairs))
    ]
    pictures = torch.from_numpy(np.stack(rendered)).permute(0, 3, 1, 2).float() / 255
    yield from shares("rendered", oracle.events(pictures), pairs)


class InPlaces(Reweight):
    """Two rows of one noise are one picture, of which the first's prompt draws the upper part and the
    second's the lower."""

    def begin(self, size: Sequence[int], steps: int | None, guidance: float | None) -> EditRun:
        return InPlacesRun(self)


class InPlacesRun(EditRun):
    def after_model(self, predictions: list[Tensor], prompted: int | None, progress: float) -> list[Tensor]:
        return [in_places(clean) for clean in super().after_model(predictions, prompted, progress)]


def in_places(clean: Tensor) -> Tensor:
    """Pairs of latents [2 B, C, h, w], each pair the same: its first above, its second below."""
    height = clean.shape[-2]
    lower = ((torch.arange(height, device=clean.device) + 0.5) / (FADED * height)).clamp(max=1)[:, None]
    return clean[::2].lerp(clean[1::2], lower.to(clean)).repeat_interleave(2, 0)


def draw_in_places(model: PictureModel, prompts: Sequence[Sequence[Prompt]], seeds: Sequence[int]) -> Tensor:
    """One picture of each two prompts, for its upper and its lower part, each with its seed, [N, 3, H, W] in
    [0, 1]."""
    return draw_each(model, [prompt for pair in prompts for prompt in pair], seeds, InPlaces(({}, {})))


def shares(what: str, shown: list[set[str]], pairs: list[tuple[str, str]]) -> Figures:
    """The pictures that show both events of their pair, and one of them at least."""
    found = [len(set(pair) & row) for row, pair in zip(shown, pairs)]
    yield f"{what}: both shown", Share(found.count(2), len(found))
    yield f"{what}: one shown", Share(len(found) - found.count(0), len(found))
