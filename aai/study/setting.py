"""What a study works on: a picture model, a sound encoder, sounds with their class-mates, and a library."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import audio, image
from ..data.class_folders import class_folders
from ..encoders.base import SoundEncoder, encode_sound
from ..errors import InputError
from ..files import is_dir
from ..library.index import index, scan
from ..library.retrieval import Library, is_own, load_pictures, rank, references
from ..library.towers import tower_of
from ..picture.model import PictureModel
from ..soundworld import library as library_
from ..soundworld import loaders
from ..soundworld.captions import label_of
from ..soundworld.pictures import render
from ..soundworld.sounds import unseen_sound
from ..soundworld.world import EVENTS, SCENES
from .scores import Likeness, Oracle, Scorer, clip_space, encoder_space
from .subject import Subject

PER_CLASS, RIVALS = 5, 200
"""For AIS, so many sounds of each class; for IIS, so many pictures of the library."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A study's world. `references(subject, k, skip)` are the pictures [k, 3, H, W] nearest to a sound, the
    first `skip` passed over; `library(n)` are n pictures of it, for measures that ask how rare a likeness is.
    `data` tells the sounds and the pictures from all others; SoundWorld's never change.
    """

    name: str
    model: PictureModel
    encoder: SoundEncoder
    subjects: Sequence[Subject]
    references: Callable[[Subject, int, int], Tensor]
    scorers: Sequence[Scorer] = ()
    sampling_steps: int = 30
    guidance: float = 7.5
    data: str = ""

    def scores(self, pictures: Tensor, subject: Subject) -> dict[str, list[float]]:
        """Every measure's value for each of the pictures [N, 3, H, W]."""
        values: dict[str, list[float]] = {}
        for scorer in self.scorers:
            values.update(scorer.score(pictures, subject))
        return values


def soundworld_setting(events: Sequence[str] = EVENTS, model: PictureModel | None = None) -> Setting:
    """SoundWorld, with an unseen sound of each of `events` at a strength of its own; `model` is its picture
    model, where that is loaded already."""
    encoder = loaders.load_sound_encoder()
    subjects = []
    for event in events:
        number = EVENTS.index(event)
        strengths = np.random.default_rng([41, number]).uniform(0.3, 1, 2)
        sound = unseen_sound(event, 500 + number, float(strengths[0]))
        mate = unseen_sound(event, 600 + number, float(strengths[1]))
        frame = render(SCENES[number % len(SCENES)], event, float(strengths[0]), 7_700_000 + number)
        subjects.append(
            Subject(
                label_of(event, encoder),
                event,
                sound,
                *encoder.embed([sound, mate]),
                torch.from_numpy(frame).permute(2, 0, 1).float() / 255,
                float(strengths[0]),
            )
        )

    def nearest(subject: Subject, k: int, skip: int = 0) -> Tensor:
        rows, _ = rank(subject.f_a, library_.library_features(encoder), k + skip)
        return library_.library_pictures()[rows[skip:]].float() / 255

    others = [unseen_sound(event, 800 + i) for i, event in enumerate(EVENTS * 2)]
    space = encoder_space(encoder, encoder.labels)
    library = library_.library_pictures()[:200].float() / 255
    scorers = (
        Oracle(loaders.load_oracle()),
        Likeness(space, subjects, others, library, encoder.labels, "own encoder"),
    )
    model = model or loaders.load_picture_model()
    return Setting("SoundWorld", model, encoder, subjects, nearest, scorers, 15, 4.0)


def folder_setting(
    model: PictureModel,
    encoder: SoundEncoder,
    sounds: str | os.PathLike,
    pictures: str | os.PathLike,
    *,
    clip: str | os.PathLike | None = None,
    wav2clip: str | os.PathLike | None = None,
    classes: Sequence[str] = (),
    callback: Callable[[int, int], None] | None = None,
) -> Setting:
    """A user's own world: a folder of classes of sounds (`class/clip.wav`), the first of each a subject and
    the second its class-mate, and a folder of pictures as the library.

    `classes` chooses some by name. `clip` is a CLIP model's folder and `wav2clip` Wav2CLIP's weights: they
    measure, and CLIP sees the pictures where the encoder cannot. A picture that is called like a sound is
    that sound's frame: never its reference, and the measure of IIS. Raises InputError for folders without
    sounds or pictures, and unknown classes.
    """
    files = sounds_of_classes(sounds)
    unknown = [name for name in classes if name not in files]
    if unknown:
        raise InputError(f"There is no class '{unknown[0]}' in '{sounds}': choose among {', '.join(files)}.")
    library = index(pictures, tower_of(encoder, None if encoder.sees else clip), callback=callback)
    spaces = {"own encoder": encoder_space(encoder, list(files))} if encoder.sees else {}
    if clip:
        spaces[Path(clip).name] = clip_space(clip, wav2clip)
    subjects, stems = [], Counter(path.stem.casefold() for paths in files.values() for path in paths)
    for label in classes or files:
        first, *others = files[label]
        heard = encode_sound(encoder, audio.load(first), first.name)
        mate = encode_sound(encoder, audio.load(others[0]), others[0].name).f_a if others else None
        folder = first.parent.name if stems[first.stem.casefold()] > 1 else ""
        frame = _frame(library, first.name, folder)
        subjects.append(Subject(label, first.name, audio.load(first), heard.f_a, mate, frame, folder=folder))

    def nearest(subject: Subject, k: int, skip: int = 0) -> Tensor:
        own = {library.folder / name for name in _own(library, subject.name, subject.folder)}
        found = references(subject.f_a, library, k + skip + len(own))
        chosen = [one for one in found if one.path not in own][skip : skip + k]
        if len(chosen) < k:
            raise InputError(
                f"The library '{pictures}' holds {len(library.names)} pictures, too few for {k + skip} "
                f"references of {subject.name}: add some."
            )
        return load_pictures([r.path for r in chosen], model.native_size)

    chosen = [(label, path) for label in files for path in files[label][:PER_CLASS]]
    rivals = [audio.load(path) for _, path in chosen]
    drawn = torch.randperm(len(library.names), generator=torch.Generator().manual_seed(0))[:RIVALS].tolist()
    names = [library.names[row] for row in sorted(drawn)]
    seen = load_pictures([library.folder / name for name in names], 224)
    scorers = tuple(
        Likeness(space, subjects, rivals, seen, list(files), name, names) for name, space in spaces.items()
    )
    measured = [(label, path.name, audio.sound_hash(s)) for (label, path), s in zip(chosen, rivals)]
    data = hashlib.sha256(repr((measured, library.tower.key, scan(pictures))).encode()).hexdigest()[:16]
    return Setting(str(pictures), model, encoder, subjects, nearest, scorers, data=data)


def sounds_of_classes(folder: str | os.PathLike) -> dict[str, list[Path]]:
    """{class in words: its sound files} of a folder of classes, those of all its splits together. Raises
    InputError where there is none."""
    folder = Path(folder)
    if not is_dir(folder):
        raise InputError(
            f"There is no folder of sounds '{folder}': give one with a subfolder for each class."
        )
    by_class: dict[str, list[Path]] = {}
    for group in class_folders(folder):
        by_class.setdefault(group.label, []).extend(group.sounds)
    if not by_class:
        raise InputError(
            f"No subfolder of '{folder}' holds sounds: give one with a subfolder for each class."
        )
    return by_class


def _own(library: Library, sound: str, folder: str) -> list[str]:
    return [name for name in library.names if is_own(name, sound, folder)]


def _frame(library: Library, sound: str, folder: str) -> Tensor | None:
    own = _own(library, sound, folder)
    return image.load(library.folder / own[len(own) // 2], 224) if own else None
