"""Pictures of a data set by the clips that they may belong to: frames/ID/3.jpg, frame_3/ID.jpg, ID_3.jpg."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

from .matching import FileKey, SourceFile, parent

FRAMES = re.compile(r"frames?[ _-]?\d+", re.IGNORECASE)
"""CAV-MAE's folders of pictures: frame_3 holds the fourth of every clip."""


Folder = tuple[str, ...]
"""The names of a file's folders below the source."""


class Frames:
    """Pictures by the name that may be a clip's, then by their folder: its own name, and whole."""

    def __init__(self, media_folders: set[Folder]):
        self.media_folders = media_folders
        self.groups: dict[str, dict[str, dict[Folder, list[str]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def of(
        self, file: SourceFile, names: Iterable[str], sounds: dict[str, dict[str, set[Folder]]]
    ) -> tuple[list[str], list[str]]:
        """The pictures of a sound by the first of `names` that has any, and []; or [] and a picture of each
        group that may be meant, where that is not clear.

        `sounds`: {stem: {name of the folder: folders}} of all sounds.
        """
        for name in names:
            groups, rivals = self.groups.get(name, {}), sounds.get(name, {})
            own, shared = _in_like_folders(groups, rivals, file.folder)
            if not own and not shared:
                own, shared = self._in_other_folders(groups, rivals, file.folder)
            if len(own) == 1:
                return own[0], []
            if own or shared:
                return [], [paths[0] for paths in own or shared]
        return [], []

    def _in_other_folders(
        self, groups: dict[str, dict[Folder, list[str]]], rivals: dict[str, set[Folder]], folder: Folder
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The groups in folders of other names and without sounds: the sound's own where no other sound has
        its name, else shared."""
        found = [
            paths
            for name in groups.keys() - {parent(folder)} - rivals.keys()
            for place, paths in groups[name].items()
            if not place or place not in self.media_folders
        ]
        alone = all(other == folder for folders in rivals.values() for other in folders)
        return (found, []) if alone else ([], found)


def _in_like_folders(
    groups: dict[str, dict[Folder, list[str]]], rivals: dict[str, set[Folder]], folder: Folder
) -> tuple[list[list[str]], list[list[str]]]:
    """The groups in folders of the sound's folder's name: those nearest to it that are nearer to it than to
    any other sound, and those that are as near to another."""
    name, shared = parent(folder), []
    own: dict[float, list[list[str]]] = defaultdict(list)
    for place, paths in groups.get(name, {}).items():
        near = _nearness(place, folder)
        other = max((_nearness(place, f) for f in rivals.get(name, ()) if f != folder), default=-1)
        if other == near:
            shared.append(paths)
        elif other < near:
            own[near].append(paths)
    return (own[max(own)] if own else []), shared


def _nearness(place: Folder, other: Folder) -> float:
    """How many of two files' innermost folders have the same names; infinite where all have."""
    if place == other:
        return math.inf
    alike = (one == two for one, two in zip(reversed(place), reversed(other)))
    return next((i for i, same in enumerate(alike) if not same), min(len(place), len(other)))


def group_frames(
    pictures: list[SourceFile], names: set[FileKey], numbered: set[str], media_folders: set[Folder]
) -> Frames:
    """Groups pictures by `names`, what a clip may be called. frames/ID/3.jpg belongs to ID rather than to 3;
    ID_3.jpg belongs to ID where no clip is called ID_3, or where that is one of `numbered`, which only a
    start of 3 makes a name."""
    frames = Frames(media_folders)
    for picture in pictures:
        folder, name = picture.folder, picture.stem
        if folder and folder[-1] in names and folder not in media_folders:
            folder, name = folder[:-1], folder[-1]
        elif name not in names or name in numbered:
            name = name.rpartition("_")[0]
        if name in names:
            place = tuple(part for part in folder if not FRAMES.fullmatch(part))
            frames.groups[name][parent(place)][place].append(picture.path)
    return frames
