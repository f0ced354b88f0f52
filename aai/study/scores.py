"""What scores a study's pictures: SoundWorld's oracle, and spaces that sounds, pictures and words share.

In a space (method.md's "Measuring", after SonicDiffusion): AIS is the share of other sounds that are less
similar to a picture than its own sound; AIC whether the nearest class in words is the sound's; IIS the share
of library pictures of other clips that are less similar to the picture than the sound's true frame; CLIP
score 100 times the cosine of picture and words. SonicDiffusion takes CLIP ViT-L/14 for AIC and IIS, ViT-B/32
for AIS alone, and a class's bare name; here one CLIP is the judge of all, of "a photo of" the class.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import Sound, sound_hash
from ..encoders.clip import load_clip
from ..encoders.loaders import load
from ..errors import InputError
from ..library.retrieval import is_own

if TYPE_CHECKING:
    from ..encoders.base import SoundEncoder
    from ..soundworld.oracle import Oracle as OracleNetwork
    from .subject import Subject


@dataclass(frozen=True)
class Measure:
    """A figure of a picture, from 0 to `most`: its name, what it says, whether more is better, whether it is
    a yes or no (then its mean is a share), and whether it asks how much a picture is like the subject's very
    sound, which says nothing of a picture that is drawn from another."""

    name: str
    text: str
    more_is_better: bool = True
    yes_or_no: bool = False
    most: float = 1.0
    of_sound: bool = False


class Scorer(Protocol):
    measures: Sequence[Measure]

    def score(self, pictures: Tensor, subject: Subject) -> dict[str, list[float]]:
        """{measure: a value for each of the pictures [N, 3, H, W]}; a measure may be left out."""


class Oracle:
    """SoundWorld's oracle: it names the event, and measures how strong it is."""

    measures = (
        Measure("event", "the oracle names the sound's event", yes_or_no=True),
        Measure(
            "strength off", "how far the event's strength is from the sound's (0 to 1)", False, of_sound=True
        ),
    )

    def __init__(self, network: OracleNetwork):
        self.network = network

    def score(self, pictures: Tensor, subject: Subject) -> dict[str, list[float]]:
        grades = self.network.grade(pictures)
        return {
            "event": [float(event == subject.name) for event in grades.events],
            "strength off": [abs(value - subject.intensity) for value in grades.intensities],
        }


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors of length one: `images` of pictures [N, 3, H, W], `sounds`, and `words`, where there are such;
    for AIC and CLIP score a class is written as in `template`."""

    images: Callable[[Tensor], Tensor]
    sounds: Callable[[Sequence[Sound]], Tensor] | None = None
    words: Callable[[Sequence[str]], Tensor] | None = None
    template: str = "{}"
    score: bool = False


class Likeness:
    """AIS, AIC, IIS and CLIP score in a space, of a study's subjects; `suffix` tells the spaces apart.

    A subject's own sound may be among the others, and pictures of its own clip in the library, where `names`
    (the pictures', in their order) tell them: it is never measured against these, and a score that has
    nothing else to go by is left out.
    """

    def __init__(
        self,
        space: Space,
        subjects: Sequence[Subject],
        other_sounds: Sequence[Sound],
        library: Tensor,
        classes: Sequence[str],
        suffix: str,
        names: Sequence[str] = (),
    ):
        self.space, self.suffix, self.classes = space, suffix, list(classes)
        self.own, self.others, self.library, self.frames, self.words = {}, None, None, {}, None
        if space.sounds is not None:
            self.own = dict(zip([s.label for s in subjects], space.sounds([s.sound for s in subjects])))
            self.others = space.sounds(other_sounds)
            hashes = [sound_hash(sound) for sound in other_sounds]
            self.foreign_sounds = {s.label: _mask(h != sound_hash(s.sound) for h in hashes) for s in subjects}
        framed = [s for s in subjects if s.frame is not None]
        if framed and len(library):
            self.library = space.images(library)
            names = names or [""] * len(library)
            self.foreign_pictures = {
                s.label: _mask(not is_own(n, s.name, s.folder) for n in names) for s in framed
            }
            self.frames = {s.label: space.images(s.frame[None])[0] for s in framed}
        if space.words is not None:
            self.words = space.words([space.template.format(name) for name in classes])
        about = f" ({suffix})"
        rows = (
            (self.own, Measure(f"AIS{about}", "other sounds that are less like the picture", of_sound=True)),
            (
                self.words is not None,
                Measure(f"AIC{about}", "the picture's class is the sound's", True, True),
            ),
            (self.frames, Measure(f"IIS{about}", "library pictures less like it than the true frame")),
            (
                self.words is not None and space.score,
                Measure(f"CLIP score{about}", "100 times the cosine of picture and class", most=100.0),
            ),
        )
        self.measures = tuple(measure for there, measure in rows if there)

    def score(self, pictures: Tensor, subject: Subject) -> dict[str, list[float]]:
        seen = self.space.images(pictures)
        values = {}
        for measure in self.measures:
            kind = measure.name.removesuffix(f" ({self.suffix})")
            if kind == "AIS":
                others = self.others[self.foreign_sounds[subject.label]]
                if len(others):
                    values[measure.name] = share_below(seen, self.own[subject.label], others)
            elif kind == "AIC":
                best = (seen @ self.words.T).argmax(-1)
                values[measure.name] = [float(self.classes[i] == subject.label) for i in best]
            elif kind == "IIS" and subject.label in self.frames:
                others = self.library[self.foreign_pictures[subject.label]]
                if len(others):
                    values[measure.name] = share_below(seen, self.frames[subject.label], others)
            elif kind == "CLIP score":
                words = self.words[self.classes.index(subject.label)]
                values[measure.name] = (100 * (seen @ words)).clamp(min=0).tolist()
        return values


def share_below(seen: Tensor, own: Tensor, others: Tensor) -> list[float]:
    """For each of `seen` [N, D] the share of `others` [M, D] that are less similar to it than `own` [D]."""
    return ((seen @ others.T) < (seen @ own)[:, None]).float().mean(-1).tolist()


def _mask(rows: Iterable[bool]) -> Tensor:
    return torch.tensor(list(rows), dtype=torch.bool)


def clip_space(folder: str | os.PathLike, wav2clip: str | os.PathLike | None = None) -> Space:
    """A CLIP model's folder as a space, with Wav2CLIP's weights for sounds too (CLIP must then be ViT-B/32).

    Raises InputError for a folder without a model or tokenizer, for weights that are not Wav2CLIP's, and for
    a CLIP of another width.
    """
    tower = load_clip(folder)
    # Now, not after the pictures are drawn.
    _ = tower.tokenizer
    hears = None if wav2clip is None else _wav2clip(wav2clip).embed
    width = tower.model.config.projection_dim
    if hears is not None and width != 512:
        raise InputError(
            f"Wav2CLIP's sounds have 512 numbers, the pictures of '{folder}' {width}: give CLIP ViT-B/32."
        )
    return Space(
        tower.embed_images,
        hears,
        tower.embed_text,
        "a photo of {}",
        score=True,
    )


def _wav2clip(path: str | os.PathLike) -> SoundEncoder:
    encoder = load(path)
    if encoder.family != "wav2clip":
        raise InputError(
            f"'{path}' holds {encoder.name}, not Wav2CLIP, by which AIS is measured: give its file."
        )
    return encoder


def encoder_space(encoder: SoundEncoder, classes: Sequence[str]) -> Space:
    """The sound encoder's own space, with words where it knows all the classes. It also chose the references,
    so it does not judge them independently."""
    vectors = dict(zip(encoder.labels, encoder.label_vectors.float().cpu()))

    def words(names: Sequence[str]) -> Tensor:
        return F.normalize(torch.stack([vectors[name] for name in names]), dim=-1)

    return Space(
        lambda pictures: F.normalize(encoder.embed_images(pictures).float().cpu(), dim=-1),
        lambda sounds: torch.cat([encoder.embed([sound]) for sound in sounds]).float().cpu(),
        words if set(classes) <= set(vectors) else None,
    )
