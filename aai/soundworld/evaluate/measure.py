"""The measurements behind `python -m aai.soundworld.evaluate`: every figure of SoundWorld's model card."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice

import torch
from torch import Tensor

from ...adapt.train import TrainSettings, train_token
from ...audio import Sound
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...inject.edit import stack_of
from ...inject.film import encoding_once
from ...metrics import Share
from ...picture.control import Control
from ...picture.model import PictureModel
from ...prompt import Prompt
from ...token import SoundToken
from ..library import references
from ..oracle import Oracle
from ..sounds import unseen_sound
from .edits import GUIDANCE, SAMPLING_STEPS

TOGETHER = 16
"""Pictures that are drawn at a time."""
INTENSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
BY_SOUND, HELD_FIXED, ONE_ADAPTER = SERIES = (
    "references by the sound",
    "references held fixed",
    "one adapter, references held fixed",
)


def make_token(
    model: PictureModel, f_a: Tensor, pictures: Tensor, settings: TrainSettings, name: str
) -> SoundToken:
    return train_token(model, f_a, pictures, settings, name).token


def draw(model: PictureModel, token: SoundToken, seeds: Sequence[int]) -> Tensor:
    """One picture of "a photo of *" per seed, [N, 3, H, W] in [0, 1]."""
    return draw_each(model, [Prompt("a photo of *", (token,))] * len(seeds), seeds)


def draw_each(
    model: PictureModel, prompts: Sequence[Prompt], seeds: Sequence[int], edit: Control | None = None
) -> Tensor:
    """One picture of each prompt, each with its seed, [N, 3, H, W] in [0, 1]; with an edit, the first of the
    pictures of its `rows` prompts."""
    encode_prompt, rows = encoding_once(model.encode_prompt), 1 if edit is None else edit.rows
    uncond, count = model.encode_prompt(Prompt("")), len(prompts) // rows
    conds = [[encode_prompt(prompt) for prompt in prompts[i * rows : (i + 1) * rows]] for i in range(count)]

    def lengths(i: int) -> list[int]:
        return [cond.cross.shape[1] for cond in conds[i]]

    drawn: dict[int, Tensor] = {}
    # Of one length together: without an edit, no one masks the end of a shorter text in a transformer.
    for _, alike in groupby(sorted(range(count), key=lengths), lengths):
        for part in batched(alike, TOGETHER):
            cond = stack_of(model)([cond for i in part for cond in conds[i]])
            latents = model.sample(
                cond, uncond, seeds=[seeds[i] for i in part], steps=SAMPLING_STEPS, guidance=GUIDANCE,
                edit=edit,
            )  # fmt: skip
            drawn |= dict(zip(part, latents[::rows]))
    return model.decode(torch.stack([drawn[i] for i in range(count)])).clamp(0, 1)


def batched(values: Iterable[int], size: int) -> Iterator[list[int]]:
    values = iter(values)
    while part := list(islice(values, size)):
        yield part


def share_named(oracle: Oracle, pictures: dict[str, Tensor]) -> Share:
    """The share of pictures in which the oracle names their event."""
    hits = sum(oracle.grade(images).events.count(event) for event, images in pictures.items())
    return Share(hits, sum(len(images) for images in pictures.values()))


def tokens(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    sounds: dict[str, Sound],
    settings: TrainSettings,
    seeds: range,
    say: Callable[[str], None],
) -> Share:
    """The oracle's agreement on "a photo of *", one token per class."""
    drawn = {}
    for event, sound in sounds.items():
        start = time.monotonic()
        f_a = encoder.embed([sound])[0]
        token = make_token(model, f_a, references(f_a, encoder)[0], settings, "sound")
        seconds = time.monotonic() - start
        drawn[event] = draw(model, token, seeds)
        hits = share_named(oracle, {event: drawn[event]})
        cosine = token.cosine()["clip_l"]
        say(f"{event}: {hits}; encoded and trained in {seconds:.0f} s, cos(e, f_a) {cosine:.2f}")
    return share_named(oracle, drawn)


def ablations(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    sounds: dict[str, Sound],
    mates: dict[str, Sound],
    settings: TrainSettings,
    seeds: range,
) -> dict[str, Share]:
    """What carries a token's meaning.

    (a) another class's sound chooses the references; (b) another class's sound stands in e, the references
    stay; (c) after training f_a is replaced by a class-mate's or by a stranger's.
    """
    events = list(sounds)
    embeddings = dict(zip(events, encoder.embed([sounds[e] for e in events])))
    mate = dict(zip(events, encoder.embed([mates[e] for e in events])))
    stranger = dict(zip(events, events[1:] + events[:1]))
    pictures = {e: references(embeddings[e], encoder)[0] for e in events}
    drawn: dict[str, dict[str, Tensor]] = {}

    def add(what: str, event: str, token: SoundToken) -> None:
        drawn.setdefault(what, {})[event] = draw(model, token, seeds)

    for event in events:
        other = stranger[event]
        token = make_token(model, embeddings[event], pictures[event], settings, "sound")
        add("none", event, token)
        token_a = make_token(model, embeddings[event], pictures[other], settings, "sound")
        add("a: a stranger's sound chooses the references", event, token_a)
        token_b = make_token(model, embeddings[other], pictures[event], settings, "sound")
        add("b: a stranger's sound in e, the references kept", event, token_b)
        add("c: a class-mate's sound after training", event, token.with_sound(mate[event]))
        add("c: a stranger's sound after training", event, token.with_sound(embeddings[other]))
    shares = {what: share_named(oracle, images) for what, images in drawn.items()}
    for what in [what for what in drawn if "stranger" in what]:
        followed = {stranger[e]: images for e, images in drawn[what].items()}
        shares[f"{what}; the stranger's event is shown"] = share_named(oracle, followed)
    return shares


def loudness(
    model: PictureModel,
    oracle: Oracle,
    encoder: CAVMAEEncoder,
    events: Iterable[str],
    settings: TrainSettings,
    seeds: range,
    series: str,
) -> dict[str, float]:
    """Per event, Spearman of five levels of one sound and the intensity that the oracle measures, one token
    a level.

    `series` is one of SERIES: each level is trained on pictures of its own; or on those of the middle level;
    or the middle level alone is trained, and its adapter takes the sounds of the others (Fig. 6b).
    """
    from scipy.stats import spearmanr

    correlations = {}
    for event in events:
        levels, measured = [], []
        embeddings = {i: encoder.embed([unseen_sound(event, 700, i)])[0] for i in INTENSITIES}
        middle = embeddings[INTENSITIES[2]]

        def trained(f_a: Tensor, nearest_to: Tensor) -> SoundToken:
            return make_token(model, f_a, references(nearest_to, encoder)[0], settings, "sound")

        adapter = trained(middle, middle) if series == ONE_ADAPTER else None
        for intensity, f_a in embeddings.items():
            token = (
                adapter.with_sound(f_a) if adapter else trained(f_a, f_a if series == BY_SOUND else middle)
            )
            intensities = oracle.grade(draw(model, token, seeds)).intensities
            levels += [intensity] * len(intensities)
            measured += intensities
        correlations[event] = float(spearmanr(levels, measured).statistic)
    return correlations
