"""Films from picture models: every frame is an edit of one source (eq. 7), of one noise, with the word
and the scale of its moment.

Frames that would show the same are drawn once, and a frame at scale 0 is the source itself. Drawn in chunks,
a chunk's frames share the row of their source. A film of new scenes has another noise, and so another source,
from each cut on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..picture.model import Conditioning
from ..prompt import Prompt
from ..token import SoundToken, word_vectors
from .edit import Edit
from .loudness import LARGEST
from .timeline import Timeline

STEP = 0.01
"""Scales are told apart by this: 2 % of the way from the source to the edit is one shade in fifty."""

WordOf = Callable[[Tensor], SoundToken]
"""The word of a sound f_a [dim]."""


@dataclass(frozen=True)
class Shot:
    """A picture of a film: the stretch of the timeline whose word it draws, the scale, and the number of its
    scene, each of which has a noise of its own."""

    stretch: int
    scale: float
    scene: int = 0


@dataclass(frozen=True)
class FilmPlan:
    """The different pictures of a film in the order in which they first appear, and each frame's: its number,
    or SOURCE less the number of the scene whose source it is."""

    shots: tuple[Shot, ...]
    frames: tuple[int, ...]

    @property
    def sources(self) -> tuple[int, ...]:
        """The scenes whose sources a frame shows, in order."""
        return tuple(sorted({SOURCE - number for number in self.frames if number < 0}))

    @property
    def drawn(self) -> tuple[Shot, ...]:
        """What is drawn, beside the sources: the shots, and where a scene has none, one at scale 0."""
        bare = set(self.sources) - {shot.scene for shot in self.shots}
        nothing = (replace(NOTHING, scene=scene) for scene in bare)
        return tuple(sorted((*self.shots, *nothing), key=lambda shot: shot.scene))


SOURCE = -1
NOTHING = Shot(SOURCE, 0.0)
"""A shot that shows the source alone."""


def plan(timeline: Timeline) -> FilmPlan:
    """The pictures of a timeline, of one scene, or of a new one from each cut on where it says so."""
    return planned(timeline.stretch, timeline.scale, timeline.new_scenes)


def planned(stretches: np.ndarray, scales: np.ndarray, new_scenes: bool = False) -> FilmPlan:
    """The pictures of frames that draw these stretches [T] at these scales [T]; with new scenes, each stretch
    is one."""
    steps = np.rint(np.clip(scales, 0, LARGEST) / STEP).astype(int)
    numbers: dict[tuple[int, int], int] = {}
    frames = []
    for stretch, step in zip(stretches.tolist(), steps.tolist()):
        shows = step > 0 and stretch >= 0
        scene = max(stretch, 0) if new_scenes else 0
        frames.append(numbers.setdefault((stretch, step), len(numbers)) if shows else SOURCE - scene)
    shots = (Shot(stretch, step * STEP, stretch if new_scenes else 0) for stretch, step in numbers)
    return FilmPlan(tuple(shots), tuple(frames))


def chunks(shots: Sequence[Shot], size: int) -> list[tuple[Shot, ...]]:
    """Up to `size` shots of one scene at a time."""
    scenes = [tuple(of_one) for _, of_one in groupby(shots, key=lambda shot: shot.scene)]
    return [scene[begin : begin + size] for scene in scenes for begin in range(0, len(scene), size)]


def words_of(timeline: Timeline, word_of: WordOf) -> Callable[[int], SoundToken]:
    """The token of each stretch, made when it is first asked for; -1's is that of no sound at all."""

    @lru_cache(maxsize=64)
    def token(stretch: int) -> SoundToken:
        f_a = timeline.f_a[stretch] if stretch >= 0 else timeline.windows.f_a.new_zeros(timeline.f_a.shape[1])
        return word_of(f_a)

    return token


def word_of_sound(token: SoundToken, timeline: Timeline) -> WordOf:
    """A trained token's adapter, which takes every sound in turn (Fig. 6b). Raises InputError as
    `check_adapter` for the timeline's encoder."""
    check_adapter(token, timeline.windows.encoder, timeline.f_a.shape[1])
    return token.with_sound


def check_adapter(token: SoundToken, encoder: str, width: int) -> None:
    """Raises InputError for a token that was trained by another encoder than the one of this name, whose
    sounds are this wide, or that has no adapter."""
    by = token.provenance.get("encoder", "")
    if (by and by != encoder) or (token.f_a is not None and token.f_a.shape[-1] != width):
        raise InputError(
            f"The sound token '{token.name}' was trained with the encoder '{by or 'of another width'}', but "
            f"the timeline was heard by '{encoder}': take the same encoder for both."
        )
    token.with_sound(torch.ones(width))


def plain_word(lengths: dict[str, float], name: str = "sound") -> WordOf:
    """A sound's own word without any adapter, as long as a text encoder's words are on average ({encoder:
    length}): what a picture model makes of f_a alone."""

    def word(f_a: Tensor) -> SoundToken:
        adapter = {key: f_a.new_zeros(1, f_a.shape[-1]) for key in lengths}
        vectors = {key: word_vectors(f_a, length, adapter[key]) for key, length in lengths.items()}
        return SoundToken(name, vectors, f_a, adapter, dict(lengths))

    return word


def chunk_edit(
    source: str,
    edited: str,
    shots: Sequence[Shot],
    token_of: Callable[[int], SoundToken],
    others: tuple[SoundToken, ...] = (),
    **settings,
) -> Edit:
    """The edit that draws the source and some shots. `*` in `edited` is each shot's own sound; `others` are
    tokens that all prompts may name; `settings` are `Edit`'s."""
    prompts = {shot.stretch: Prompt(edited, (token_of(shot.stretch), *others)) for shot in shots}
    rows = tuple(prompts[shot.stretch] for shot in shots)
    sound = rows[0].tokens[0]
    before = Prompt(source, rows[0].tokens)
    if sound in before.used():
        raise InputError(
            f"The source prompt '{source}' names the sound, which changes from frame to frame: write it "
            "without."
        )
    if sound not in rows[0].used():
        raise InputError(
            f"The edited prompt '{edited}' has no place for the sound: write * where it belongs."
        )
    return Edit(before, rows, scales=tuple({sound.name: shot.scale} for shot in shots), **settings)


def encoding_once(encode_prompt: Callable[[Prompt], Conditioning]) -> Callable[[Prompt], Conditioning]:
    """`encode_prompt` that encodes the same Prompt object once: a chunk's frames mostly share theirs."""
    known: dict[int, tuple[Prompt, Conditioning]] = {}

    def encode(prompt: Prompt) -> Conditioning:
        if id(prompt) not in known:
            known[id(prompt)] = prompt, encode_prompt(prompt)
        return known[id(prompt)][1]

    return encode
