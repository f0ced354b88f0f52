"""Pictures of a data set by the clips that they may belong to: frames/ID/3.jpg, frame_3/ID.jpg, ID_3.jpg."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

from .matching import FileKey, SourceFile, parent

FRAMES = re.compile(r"frames?[ _-]?\d+", re.IGNORECASE)
"""CAV-MAE's folders of pictures: frame_3 holds the fourth of every clip."""


class Frames:
    """Pictures by what may be a clip's name, and by the folder in which they lie under that name."""

    def __init__(self, beside: set[tuple[str, ...]]):
        """`beside`: the folders with sounds or videos."""
        self.beside = beside
        self.groups: dict[str, dict[str, dict[tuple[str, ...], list[str]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def of(
        self, file: SourceFile, keys: Iterable[str], elsewhere: dict[str, dict[str, set[tuple[str, ...]]]]
    ) -> tuple[list[str], list[str]]:
        """The pictures of a sound under the first of `keys` that has any; or one of each group, where more
        than one may be meant. `elsewhere`: where sounds of a name lie, by their folder's own name."""
        for key in keys:
            own: dict[float, list[list[str]]] = defaultdict(list)
            shared, groups, last = [], self.groups.get(key, {}), parent(file.folder)
            sounds = elsewhere.get(key, {})
            for place, paths in groups.get(last, {}).items():
                near = _nearness(place, file.folder)
                others = [_nearness(place, f) for f in sounds.get(last, ()) if f != file.folder]
                if max(others, default=-1) == near:
                    shared.append(paths[0])
                elif max(others, default=-1) < near:
                    own[near].append(paths)
            if not own and not shared:
                alone = not any(folder != file.folder for folders in sounds.values() for folder in folders)
                for above in groups.keys() - {last} - sounds.keys():
                    for place, paths in groups[above].items():
                        if place and place in self.beside:
                            continue
                        if alone:
                            own[0].append(paths)
                        else:
                            shared.append(paths[0])
            if own:
                nearest = own[max(own)]
                return (nearest[0], []) if len(nearest) == 1 else ([], [paths[0] for paths in nearest])
            if shared:
                return [], shared
        return [], []


def _nearness(place: tuple[str, ...], other: tuple[str, ...]) -> float:
    """How many folders above two files are called alike; all of them is more than any number."""
    if place == other:
        return math.inf
    alike = (one == two for one, two in zip(reversed(place), reversed(other)))
    return next((i for i, same in enumerate(alike) if not same), min(len(place), len(other)))


def group_frames(
    pictures: list[SourceFile], names: set[FileKey], numbered: set[str], beside: set[tuple[str, ...]]
) -> Frames:
    """`names`: what a clip may be called. frames/ID/3.jpg is called ID, before it is called 3; and ID_3.jpg
    is a picture of ID where no clip is called ID_3; `numbered` has those that only a start of 3 asks for."""
    frames = Frames(beside)
    for picture in pictures:
        folder, key = picture.folder, picture.stem
        if folder and folder[-1] in names and folder not in beside:
            folder, key = folder[:-1], folder[-1]
        elif key not in names or key in numbered:
            key = key.rpartition("_")[0]
        if key in names:
            place = tuple(part for part in folder if not FRAMES.fullmatch(part))
            frames.groups[key][parent(place)][place].append(picture.path)
    return frames
