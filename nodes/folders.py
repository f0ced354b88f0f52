"""ComfyUI's folders: what the input folder holds, and a free place among the models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import folder_paths

from ..aai.errors import InputError, sentence
from ..aai.files import is_dir, is_file, stays_within


def input_folders() -> list[str]:
    """The names of the folders in the input folder."""
    root = folder_paths.get_input_directory()
    if not os.path.isdir(root):
        return []
    # Unlike an entry's own question, this one raises nothing for a link that leads to itself.
    return sorted(entry.name for entry in os.scandir(root) if os.path.isdir(entry.path))


def input_folder(name: str) -> Path:
    """The path of a folder in the input folder. Raises InputError where there is none of this name."""
    checked = check_input_folder(name)
    if checked is not True:
        raise InputError(checked)
    return Path(folder_paths.get_input_directory()) / name


def check_input_folder(name: str | None) -> bool | str:
    """For validate_inputs: True, or what to do; folders below those that are offered are folders, too. None
    is a link's value, which is not known before it ran."""
    if name is not None and not (
        is_inside(name) and os.path.isdir(os.path.join(folder_paths.get_input_directory(), name))
    ):
        return sentence(
            f"There is no folder '{name}' in the input folder: make it and fill it, or choose another."
        )
    return True


def is_inside(name: str) -> bool:
    """Whether a name among models or inputs leads to nowhere else; not every version of ComfyUI checks it.

    Links are not followed: folders of models are often links to another disk.
    """
    path = Path(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def digest(listing: Iterable) -> str:
    """A list of a folder's files for fingerprint_inputs. ComfyUI writes what that returns into every picture
    that the graph saves: no name of a file belongs there."""
    return hashlib.sha256(repr(list(listing)).encode()).hexdigest()


def stamp(path: Path) -> str:
    """A digest of a file, or of the files directly in a folder: of their names, sizes and times. The newest
    time alone misses a file that was exchanged for an older one."""
    inside = sorted(path.iterdir()) if is_dir(path) else [path]
    stats = [(one.name, one.stat()) for one in inside if is_file(one)]
    return digest((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


ADAPTERS = "sound_adapters"


def register() -> None:
    """Makes models/sound_adapters known to ComfyUI, beside what extra_model_paths.yaml says of it."""
    folder_paths.add_model_folder_path(ADAPTERS, os.path.join(folder_paths.models_dir, ADAPTERS))
    paths, endings = folder_paths.folder_names_and_paths[ADAPTERS]
    folder_paths.folder_names_and_paths[ADAPTERS] = (paths, {*endings, ".safetensors"})


def place_of(
    kind: str, name: str, what: str, overwrite: bool, is_ours: Callable[[Path], bool], forbidden: str = ""
) -> Path:
    """Where a safetensors file of `name` goes, in a folder that is made; a number is added to a name that is
    taken, unless `overwrite`.

    Raises InputError as `path_of` does, and where a file would be replaced that this pack has not written.
    """
    path = path_of(kind, name, what, forbidden)
    if overwrite and path.exists() and not is_ours(path):
        raise InputError(
            f"'{path.name}' in models/{kind} was not written by this pack, and is not replaced: choose "
            f"another name for {what}."
        )
    plain, number = path.stem, 2
    while path.exists() and not overwrite:
        path = path.with_name(f"{plain}_{number}.safetensors")
        number += 1
    make(path.parent)
    return path


def make(folder: Path) -> None:
    """Makes a folder, where it is not there. Raises InputError where it cannot be, or not be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made ({error.strerror or error}).") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"The folder '{folder}' cannot be written to: allow it, or choose another place.")


def path_of(kind: str, name: str, what: str, forbidden: str = "") -> Path:
    """The path of a safetensors file of `name` within the first folder of models of a kind.

    Raises InputError, which calls the file `what`, for a name that is none or leads out of the folder, or has
    a character of `forbidden`, in which a space is a space of any kind.
    """
    folder = root_of(kind)
    name = name.removesuffix(".safetensors")
    # Not resolved: folders of models are often links to another disk.
    path = folder / f"{name}.safetensors"
    if not stays_within(name) or any((" " if c.isspace() else c) in forbidden for c in name):
        raise InputError(
            f"'{name}' cannot name {what}: use letters, digits, - and _, and / for a folder within "
            f"models/{kind}."
        )
    return path


def file_of(kind: str, name: str) -> str | None:
    """The path of a file in one of the folders of models of a kind; None where there is none, or the name
    leads out of them."""
    return next(filter(None, (folder_paths.get_full_path(kind, one) for one in spellings(name))), None)


def spellings(name: str) -> list[str]:
    """How a file or folder of a name that leads nowhere else may be called here: a workflow that was saved on
    Windows says "mine\\rain"."""
    return [one for one in dict.fromkeys((name, name.replace("\\", "/"))) if is_inside(one)]


def saving_stamp(overwrite: bool) -> float:
    """For fingerprint_inputs of a node that saves: what stands under its name may have changed since, so that
    a save that replaces it is never the same."""
    return float("nan") if overwrite else 0.0


def root_of(kind: str) -> Path:
    """The first folder of models of a kind."""
    return Path(folder_paths.get_folder_paths(kind)[0]).resolve()
