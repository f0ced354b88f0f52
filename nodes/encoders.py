"""Sound encoders in models/audio_encoders: files, and folders of CLAPs as transformers keeps them."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..aai.errors import InputError, sentence
from . import folders

KIND, WHAT = "audio_encoders", "a sound encoder"


def clap_folders() -> list[str]:
    """The folders below models/audio_encoders whose config.json is a CLAP's."""
    from ..aai.encoders.clap import is_clap_folder

    names = set()
    for base in map(Path, folder_paths.get_folder_paths(KIND)):
        for pattern in ("*/config.json", "*/*/config.json"):
            parents = [path.parent for path in base.glob(pattern)]
            names |= {p.relative_to(base).as_posix() for p in parents if is_clap_folder(p)}
    return sorted(names)


def names() -> list[str]:
    """What may be loaded: files, less those inside a CLAP's folder, and these folders."""
    claps = clap_folders()
    inside = tuple(f"{clap}/" for clap in claps)
    files = [f for f in folder_paths.get_filename_list(KIND) if not f.replace(os.sep, "/").startswith(inside)]
    return [*files, *claps]


def find(name: str) -> Path | None:
    """The path of a file or folder of models/audio_encoders, None where there is none."""
    bases = folder_paths.get_folder_paths(KIND)
    paths = (Path(base) / one for one in folders.spellings(name) for base in bases)
    return next((path for path in paths if path.exists()), None)


def require(name: str) -> Path:
    """As `find`. Raises InputError where there is none."""
    path = find(name)
    if path is None:
        raise InputError(missing(name))
    return path


def missing(name: str) -> str:
    """What to do about an encoder that is not there: where it belongs, and where public ones come from."""
    from ..aai.encoders.loaders import SOURCES

    folder = folder_paths.get_folder_paths(KIND)[0]
    return sentence(
        f"There is no sound encoder '{name}' in {folder}: put it there, or choose another. {SOURCES}"
    )


def stamp(name: str) -> str | None:
    """A digest of a file, or of a folder's files; None where there is none."""
    path = find(name)
    return None if path is None else folders.stamp(path)


def check_name(name: str) -> None:
    """Raises InputError for a name that `save` would not take."""
    folders.path_of(KIND, name.strip(), WHAT)


def save(encoder, name: str, overwrite: bool = False) -> str:
    """Saves into the first audio_encoders folder; returns what Load Sound Encoder calls it.

    Raises InputError for a name that a file cannot have, and where the encoder or the disk does not let it
    be saved.
    """
    from ..aai.encoders import loaders as encoders

    path = folders.place_of(KIND, name.strip(), WHAT, overwrite, encoders.is_ours)
    encoders.save(encoder, path)
    return path.relative_to(folders.root_of(KIND)).as_posix()
