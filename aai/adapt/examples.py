"""What a universal adapter learns from: sounds with their pictures, or with labels alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from ..data.clips import Clip
from ..distributed import ALONE, Distributed
from ..encoders.base import SoundEncoder
from ..encoders.fingerprint import digest, encoder_fingerprint
from ..errors import InputError
from ..picture.model import PictureModel
from .sampling import picture_rows
from .universal_settings import AdapterSettings

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
    holds.
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
    begun: int = 0,
) -> Examples:
    """Clips through the frozen towers, as far as this process's steps after `begun` draw them: each sound's
    embedding, and its pictures' middle squares of `size` pixels (the model's own) as latents.

    `callback(done, total)` may raise to stop. Raises InputError for a file that cannot be read and for a
    library that no adapter can learn from.
    """
    labels, pictures = [clip.label for clip in clips], [len(clip.pictures) for clip in clips]
    check(labels, pictures, f"'{name}'" if name else "The library")
    own, first = distributed.share(settings.batch), {}
    drawn: dict[tuple[int, int], None] = {}
    for step, pairs in enumerate(islice(draws(pictures, settings), settings.steps)):
        if len(first) < CENTRED:
            first |= dict.fromkeys(i for i, _ in pairs)
        if step >= begun:
            drawn |= dict.fromkeys(pairs[own])
    sounds = list(dict.fromkeys([*islice(first, CENTRED), *(i for i, _ in drawn)]))
    wanted = list(drawn) if any(pictures) else []
    total, f_a, latents = len(sounds) + len(wanted), {}, {}

    def tick() -> None:
        if callback:
            callback(len(f_a) + len(latents), total)

    for begin in range(0, len(sounds), TOGETHER):
        part = sounds[begin : begin + TOGETHER]
        f_a |= dict(zip(part, encoder.embed([clips[i].load_sound() for i in part]).float().cpu()))
        tick()
    side = size or model.native_size
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
        encoder_fingerprint(encoder.family, encoder.state()[0]),
        encoder.name,
        (list(encoder.labels), encoder.label_vectors.float().cpu()),
        name,
        digest([(clip.id, clip.label, len(clip.pictures)) for clip in clips], side),
    )
