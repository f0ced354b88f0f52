"""What a universal adapter learns from: sounds with their pictures, or with labels alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from ..data.clips import Clip
from ..distributed import ALONE, Distributed
from ..encoders.base import Inaudible, SoundEncoder, audible_loudness
from ..encoders.fingerprint import digest, encoder_fingerprint
from ..errors import InputError, logger
from ..picture.model import PictureModel
from ..prompt import Prompt
from ..token import SoundToken
from .resumption import check_alike, check_steps_left
from .sampling import picture_rows
from .trainer import check_prompts
from .universal import SoundAdapter
from .universal_settings import AdapterSettings

log = logger(__name__)

TOGETHER = 8
"""Sounds or pictures that are encoded together."""
CENTRED = 256
"""The sounds whose mean and spread an adapter begins with; every process hears them."""


@dataclass(frozen=True)
class Examples:
    """Sounds with their pictures' latents, as far as a training draws them.

    labels: of every sound of the library. pictures: how many each has; 0 where only labels are known. f_a:
    {sound: its embedding [dim]}. latents: {(sound, picture): [C, h, w]}. encoder, encoder_name and table
    (labels, vectors [L, dim]) are the sound encoder's. name: what the library is called; digest: what it
    holds, words included. words: {text encoder: each sound's own [N, width]}, of all encoders or none, for
    `AdapterSettings.near`.
    """

    labels: Sequence[str]
    pictures: Sequence[int]
    f_a: Mapping[int, Tensor]
    latents: Mapping[tuple[int, int], Tensor]
    encoder: str
    encoder_name: str
    table: tuple[Sequence[str], Tensor] = field(default_factory=lambda: ([], torch.zeros(0, 0)))
    name: str = ""
    digest: str = ""
    words: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """The library in words."""
        counted = f"{len(self.labels)} sounds of {len(set(self.labels))} labels"
        kind = "with pictures" if any(self.pictures) else "by their labels alone"
        return f"{self.name}: {counted}, {kind}" if self.name else f"{counted}, {kind}"


def draws(pictures: Sequence[int], settings: AdapterSettings) -> Iterator[list[tuple[int, int]]]:
    """Every step's sounds, each with one of its pictures at random: every sound once, then again. The seed
    alone decides, so a resumed training draws on, and all processes draw the same."""
    generator = torch.Generator().manual_seed(settings.seed % 2**63)
    for rows in picture_rows(len(pictures), settings.batch, generator):
        chosen = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        yield [(i, int(u * pictures[i])) for i, u in zip(rows.tolist(), chosen.tolist())]


def check(labels: Sequence[str], pictures: Sequence[int], source: str = "The library") -> None:
    """Raises InputError for a library that no adapter can learn from."""
    if len(labels) < 2:
        raise InputError(
            f"{source} holds {len(labels)} sound: an adapter for every sound needs many, and for one alone a "
            "token is trained."
        )
    without = [i for i, count in enumerate(pictures) if not count]
    if without and len(without) < len(pictures):
        raise InputError(
            f"{source} holds {len(without)} sounds without pictures (the first is of "
            f"'{labels[without[0]]}'): give every sound some, or none at all to learn from the labels alone."
        )


def from_clips(
    clips: Sequence[Clip],
    encoder: SoundEncoder,
    model: PictureModel,
    settings: AdapterSettings,
    size: int | None = None,
    *,
    name: str = "",
    callback: Callable[[int, int], None] | None = None,
    distributed: Distributed = ALONE,
    resume: SoundAdapter | None = None,
) -> Examples:
    """Clips through the frozen towers, as far as this process's steps after those of `resume` draw them: each
    sound's embedding, and its pictures' middle squares of `size` pixels (the model's own) as latents.

    `callback(done, total)` may raise to stop. Raises InputError for a file that cannot be read, for sounds
    without anything to hear (`audible_loudness`) and, before any is encoded, for a library that no adapter
    can learn from, a training prompt without a place for the sound, and a `resume` whose training does not go
    on with these.
    """
    labels, pictures = [clip.label for clip in clips], [len(clip.pictures) for clip in clips]
    check(labels, pictures, f"'{name}'" if name else "The library")
    word = SoundToken("sound", {key: torch.zeros(1, width) for key, width in model.widths.items()})
    check_prompts([Prompt(text, (word,)) for text in settings.templates], settings.template)
    side, begun = size or model.native_size, 0
    heard_by, held = encoder_fingerprint(encoder.family, encoder.state()[0]), digest_of(clips, side)
    if resume is not None:
        check_alike(resume, settings, heard_by, model.fingerprint, held)
        check_steps_left(resume, settings)
        begun = resume.steps
    own = distributed.share(settings.batch)
    drawn: dict[tuple[int, int], None] = {}
    for pairs in islice(draws(pictures, settings), begun, settings.steps):
        drawn |= dict.fromkeys(pairs[own])
    # Whatever this process draws: all begin with the same adapter, and so does a longer training.
    centred = islice((i for pairs in draws(pictures, settings) for i, _ in pairs), min(CENTRED, len(clips)))
    sounds = list(dict.fromkeys([*centred, *(i for i, _ in drawn)]))
    wanted = list(drawn) if any(pictures) else []
    total, f_a, latents = len(sounds) + len(wanted), {}, {}

    def tick() -> None:
        if callback:
            callback(len(f_a) + len(latents), total)

    inaudible = []
    for begin in range(0, len(sounds), TOGETHER):
        part = sounds[begin : begin + TOGETHER]
        heard = [clips[i].load_sound() for i in part]
        for i, sound in zip(part, heard):
            try:
                audible_loudness(sound, clips[i].id)
            except Inaudible as error:
                inaudible.append(error)
        f_a |= dict(zip(part, encoder.embed(heard).float().cpu()))
        tick()
    if inaudible:
        # All are told at once, or each would stop a training of its own.
        for error in inaudible[1:]:
            log.warning("%s", error)
        raise inaudible[0]
    for begin in range(0, len(wanted), TOGETHER):
        part = wanted[begin : begin + TOGETHER]
        images = torch.stack([clips[i].load_picture(j, side) for i, j in part])
        latents |= dict(zip(part, model.encode_images(images).cpu()))
        tick()
    return Examples(
        labels,
        pictures,
        f_a,
        latents,
        heard_by,
        encoder.name,
        (list(encoder.labels), encoder.label_vectors.float().cpu()),
        name,
        held,
    )


def digest_of(clips: Sequence[Clip], side: int) -> str:
    """What a library holds, with pictures of `side` pixels."""
    return digest([(clip.id, clip.label, len(clip.pictures)) for clip in clips], side)
