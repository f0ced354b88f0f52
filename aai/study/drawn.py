"""AIS, AIC and IIS of pictures that lie in folders, whoever drew them: ours, and another method's beside.

A picture belongs to the sound that it is called like (`is_own`: `7.png`, `7_3.png`, `7/3.png` for `7.wav`);
of several, to one of the class whose folder it lies in, and among these to that of the longest name
(`7_3.png` to `7_3.wav`). The measures are `scores.py`'s. Pictures of one sound are not independent: a figure
is the mean over the sounds' own means, and its interval is over sounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from .. import audio, image
from ..errors import InputError
from ..library.index import scan
from ..metrics import interval_of_shares
from .scores import Space, share_below
from .setting import sounds_of_classes

BATCH = 4
"""Pictures that are in memory together."""


@dataclass(frozen=True)
class Figure:
    """A measure's mean over `sounds`, from 0 to 1, and its 95 % interval; None of a single sound."""

    value: float
    interval: tuple[float, float] | None
    sounds: int


@dataclass(frozen=True, eq=False)
class Heard:
    """The sounds that pictures are of: their files and classes, and all the classes in words."""

    files: Sequence[Path]
    labels: Sequence[str]
    classes: Sequence[str]


def heard_of(folder: str | os.PathLike) -> Heard:
    """The sounds of a folder of classes. Raises InputError where there are none."""
    by_class = sounds_of_classes(folder)
    files = [(path, label) for label, paths in by_class.items() for path in paths]
    return Heard([path for path, _ in files], [label for _, label in files], list(by_class))


def pictures_by_sound(folder: str | os.PathLike, heard: Heard) -> tuple[dict[int, list[Path]], int]:
    """{number of a sound: its pictures} of a folder and all below it, and how many pictures are of no sound.

    Raises InputError for a folder without pictures, one whose pictures are all of no sound, and a picture
    that may be of several.
    """
    folder, found, strangers = Path(folder), {}, 0
    by_clip: dict[str, dict[int, str]] = {}
    for i, path in enumerate(heard.files):
        by_clip.setdefault(path.stem.casefold(), {})[i] = path.parent.name.casefold()
    for name in scan(folder):
        own = _owners(PurePosixPath(name.casefold()), by_clip)
        if len(own) > 1:
            first, second = (heard.files[i] for i in own[:2])
            raise InputError(
                f"'{name}' may be of '{first.parent.name}/{first.name}' or of '{second.parent.name}/"
                f"{second.name}': call it like one of them alone, in a folder of its class's name."
            )
        if own:
            found.setdefault(own[0], []).append(folder / name)
        else:
            strangers += 1
    if not found:
        raise InputError(
            f"No picture of '{folder}' is called like a sound: name them 7.png, 7_2.png or 7/2.png for 7.wav."
        )
    return found, strangers


def _owners(picture: PurePosixPath, by_clip: Mapping[str, Mapping[int, str]]) -> list[int]:
    """The numbers of the sounds that a picture is of, several where its name does not tell, of {name without
    its ending: {number: class's folder}} of all sounds; everything in lower case.

    `is_own`'s rules, looked up: sounds of the folders' classes go before others, and a longer name before a
    shorter one.
    """
    stem, above = picture.stem, picture.parts[:-1]
    begins = [stem[:end] for end in range(len(stem) - 1, 0, -1) if stem[end] in "_-"]
    called = [by_clip.get(clip, {}) for clip in (stem, *filter(_has_digit, begins))]
    around = {part: by_clip.get(part, {}) for part in filter(_has_digit, above)}
    classed = any(label in above for sounds in (*called, *around.values()) for label in sounds.values())

    def chosen(sounds: Mapping[int, str]) -> list[int]:
        return [i for i, label in sounds.items() if not classed or label in above]

    own = {*next(filter(None, map(chosen, called)), ())}
    folders = [(part, i, around[part][i]) for part in around for i in chosen(around[part])]
    # A folder that may stand for a class of the same name does not tell a sound, where anything else does.
    own |= {i for part, i, label in folders if above.count(part) > (label == part)}
    return sorted(own or {i for _, i, _ in folders})


def _has_digit(name: str) -> bool:
    return any(map(str.isdigit, name))


class DrawnScores:
    """The measures of one space: what they need of sounds and frames is computed once.

    Frames are the sounds' true pictures, in a folder by their names; without them there is no IIS.
    """

    def __init__(
        self,
        space: Space,
        heard: Heard,
        frames: str | os.PathLike | None = None,
        callback: Callable[[int], None] | None = None,
    ):
        self.space, self.heard, self.sounds, self.words = space, heard, None, None
        if space.sounds is not None:
            rows = []
            for path in heard.files:
                rows.append(space.sounds([audio.load(path)]))
                if callback:
                    callback(len(rows))
            self.sounds = torch.cat(rows)
        if space.words is not None:
            self.words = space.words([space.template.format(name) for name in heard.classes])
        self.frames, self.owner = torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
        if frames is not None:
            by_sound, _ = pictures_by_sound(frames, heard)
            paths = {i: own[len(own) // 2] for i, own in by_sound.items()}
            self.frames = torch.cat([space.images(image.load(path)[None]) for path in paths.values()])
            self.owner = torch.tensor(list(paths))

    def score(self, sound: int, pictures: Sequence[Tensor]) -> dict[str, list[float]]:
        """{measure: a value for each of the pictures [3, H, W] of a sound, of any sizes}; one that has
        nothing to go by is left out."""
        # One by one, so that each goes to the judge's own size in one step, whatever that is.
        seen, values = torch.cat([self.space.images(picture[None]) for picture in pictures]), {}
        if self.sounds is not None and len(self.sounds) > 1:
            others = torch.cat([self.sounds[:sound], self.sounds[sound + 1 :]])
            values["AIS"] = share_below(seen, self.sounds[sound], others)
        if self.words is not None and len(self.words) > 1:
            best = (seen @ self.words.T).argmax(-1).tolist()
            values["AIC"] = [float(self.heard.classes[i] == self.heard.labels[sound]) for i in best]
        own = self.owner == sound
        if own.any() and (~own).any():
            values["IIS"] = share_below(seen, self.frames[own][0], self.frames[~own])
        return values


def measure(
    drawn: Mapping[int, Sequence[Path]],
    scorers: Mapping[str, DrawnScores],
    callback: Callable[[int], None] | None = None,
) -> dict[str, Figure]:
    """{measure (space): its figure} of pictures by sound; `callback(sounds done)` may raise to stop."""
    means: dict[str, list[float]] = {}
    for done, (sound, paths) in enumerate(drawn.items(), 1):
        values: dict[str, list[float]] = {}
        for begin in range(0, len(paths), BATCH):
            pictures = [image.load(path) for path in paths[begin : begin + BATCH]]
            for space, scorer in scorers.items():
                for name, more in scorer.score(sound, pictures).items():
                    values.setdefault(f"{name} ({space})", []).extend(more)
        for name, all_of in values.items():
            means.setdefault(name, []).append(sum(all_of) / len(all_of))
        if callback:
            callback(done)
    return {name: _figure(rows) for name, rows in means.items()}


def _figure(means: Sequence[float]) -> Figure:
    count, value = len(means), sum(means) / len(means)
    return Figure(value, interval_of_shares(means) if count > 1 else None, count)
