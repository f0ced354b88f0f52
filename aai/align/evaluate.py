"""How well an encoder places sounds: retrieval and nearest labels, ties counted against the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.base import audible_loudness
from ..errors import InputError
from ..metrics import Share, nearest_label, retrieval

if TYPE_CHECKING:
    from ..audio import Sound
    from ..encoders.base import SoundEncoder
    from ..encoders.cavmae import CAVMAE
    from .features import Features


def label_accuracy(model: CAVMAE, features: Features) -> Share:
    """How many clips, each the mean of its windows, lie nearest to their own label's vector."""
    return nearest_label(clip_features(model, features), features.f_t, features.labels)


@torch.no_grad()
def clip_features(model: CAVMAE, features: Features, clips: list[int] | None = None) -> Tensor:
    """f_a of clips (None: of all), each the mean of its windows of length one, [N, D]: of the patches that
    the encoder embeds, which are those that hold sound where nothing is padded."""
    clips = range(len(features.windows)) if clips is None else clips
    windows = [features.windows[clip] for clip in clips]
    rows = torch.tensor([row for clip in windows for row in clip])
    device = model.modality_a.device
    order, parts = [], []
    for places, keep in _alike(model, features, clips, len(rows)):
        # An hour of sound is hundreds of windows: they go in parts, whatever clip they are of.
        for part in places.split(64):
            fbanks = features.fbanks[rows[part].tolist()].float().to(device)
            own = None if keep is None else keep.expand(len(part), -1).to(device)
            parts.append(F.normalize(model.audio_features(fbanks, own), dim=-1).cpu())
        order.append(places)
    f_a = torch.cat(parts)[torch.cat(order).argsort()]
    return torch.stack([part.mean(0) for part in f_a.split([len(clip) for clip in windows])])


def _alike(
    model: CAVMAE, features: Features, clips: Sequence[int], count: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Which of the clips' windows fill the same patches, and the numbers [n] of these; None for all."""
    if features.frames is None:
        yield torch.arange(count), None
        return
    frames = [own for clip in clips for own in features.frames[clip]]
    patches = {own: model.config.patches_of(own) for own in set(frames)}
    filled = torch.tensor([len(patches[own]) for own in frames])
    for keep in {len(keep): keep for keep in patches.values()}.values():
        yield (filled == len(keep)).nonzero()[:, 0], keep


def per_class(labels: Tensor, count: int | None, seed: int = 0) -> Tensor:
    """The rows of at most `count` random clips of every label [N]; None takes all.

    CAV-MAE's retrieval takes 5 clips of each of VGGSound's classes (the 1.4K of Table 1; 10 are its 2.8K).
    """
    if count is None:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    rows = [order[labels[order] == label][:count] for label in labels.unique()]
    return torch.cat(rows).sort().values


SUBSETS = {"5 a class": 5, "10 a class": 10, "all": None}


def retrieval_tables(
    f_a: Tensor,
    f_v: Tensor | None,
    f_t: Tensor | None,
    labels: Tensor,
    seed: int = 0,
    pictures: Tensor | None = None,
    kept: tuple[Tensor, Tensor] | None = None,
) -> list[dict]:
    """Table 1's protocol, both directions: N sounds [N, D], P pictures [P, D], label vectors [L, D].

    `pictures` [N] is the number of each clip's picture, where clips share some; without it, every clip has
    its own, in order. A picture is in the gallery once however many clips have it: the right picture for a
    sound is its own clip's, the right sound for a picture any clip that has it. The right text is a sound's
    label, among all labels; the right sound for a label is any clip of it. Where some of M clips are not
    measured, `kept` is all their labels [M] and the numbers [N] of those that are: subsets are then drawn
    from all of them, so that encoders that can measure others are compared on the same. One dict for each of
    SUBSETS that differs: the first that takes all clips is "all", and the last.
    """
    pictures = torch.arange(len(labels)) if pictures is None else pictures
    every, own_numbers = (labels, torch.arange(len(labels))) if kept is None else kept
    tables = []
    for name, count in SUBSETS.items():
        rows = torch.isin(own_numbers, per_class(every, count, seed)).nonzero()[:, 0]
        whole = len(rows) == len(labels)
        sounds, numbers = f_a[rows], labels[rows]
        table = {
            "subset": "all" if whole else name,
            "clips": len(rows),
            "classes": len(numbers.unique()),
        }
        if f_v is not None:
            own, shown = pictures[rows], pictures[rows].unique()
            table["pictures"] = len(shown)
            table["sound to picture"] = retrieval(sounds, f_v[shown], own, shown)
            table["picture to sound"] = retrieval(f_v[shown], sounds, shown, own)
        if f_t is not None:
            words = numbers.unique()
            table["sound to text"] = retrieval(sounds, f_t, numbers, torch.arange(len(f_t)))
            table["text to sound"] = retrieval(f_t[words], sounds, words, numbers)
        tables.append(table)
        if whole:
            break
    return tables


@dataclass(frozen=True)
class Embedded:
    """K of N files: their embeddings [K, dim], their numbers, and why the others were left out."""

    features: Tensor
    rows: list[int]
    refusals: list[str]

    def places(self, numbers: Tensor) -> Tensor:
        """Where among `features` the files of these numbers [M] are; -1 for those that were left out."""
        places = torch.full((len(self.rows) + len(self.refusals),), -1)
        places[self.rows] = torch.arange(len(self.rows))
        return places[numbers]


def embed_sounds(
    encoder: SoundEncoder,
    sounds: Iterable[tuple[str, Callable[[], Sound]]],
    callback: Callable[[int], None] | None = None,
    batch: int = 16,
) -> Embedded:
    """Named sounds, read as they are needed; `callback(done)` may raise to stop.

    Those that cannot be read, or have nothing to hear (`audible_loudness`), are left out. Raises InputError
    where that is all of them.
    """
    rows: list[int] = []
    refusals: list[str] = []

    def heard() -> Iterator[Sound]:
        for number, (name, load) in enumerate(sounds):
            try:
                sound = load()
                audible_loudness(sound, name)
            except InputError as refusal:
                refusals.append(str(refusal))
                continue
            rows.append(number)
            yield sound

    # The encoder takes a batch one by one and keeps what it hears of each: recordings may be of any length.
    parts, found = [], heard()
    while len(part := encoder.embed(islice(found, batch))):
        parts.append(part.float().cpu())
        if callback:
            callback(len(rows) + len(refusals))
    return _embedded(parts, rows, refusals, "sounds")


def embed_pictures(
    encoder: SoundEncoder,
    pictures: Iterable[Callable[[], Tensor]],
    callback: Callable[[int], None] | None = None,
) -> Embedded:
    """Pictures [3, H, W] in [0, 1], each of its own size, read as they are needed; as `embed_sounds`."""
    parts: list[Tensor] = []
    rows: list[int] = []
    refusals: list[str] = []
    for number, load in enumerate(pictures):
        try:
            picture = load()
        except InputError as refusal:
            refusals.append(str(refusal))
        else:
            rows.append(number)
            parts.append(encoder.embed_images(picture[None]).float().cpu())
        if callback:
            callback(number + 1)
    return _embedded(parts, rows, refusals, "pictures")


def _embedded(parts: list[Tensor], rows: list[int], refusals: list[str], kind: str) -> Embedded:
    if not rows:
        raise InputError(f"None of the {len(refusals)} {kind} can be measured. {refusals[0]}")
    return Embedded(torch.cat(parts), rows, refusals)
