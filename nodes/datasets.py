"""What a node trains on: a folder inside the input folder, or SoundWorld's own examples."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..aai.files import is_file, walk
from . import folders
from .types import SOUNDWORLD

EXAMPLES = "aai_soundworld_examples"
"""Where in ComfyUI's temp folder SoundWorld's own dataset is written."""


def choices() -> list[str]:
    return [SOUNDWORLD, *folders.input_folders()]


def check(name: str | None) -> bool | str:
    """For validate_inputs: True, or what to do."""
    return True if name == SOUNDWORLD else folders.check_input_folder(name)


def stamp(folder: str | None) -> str | None:
    """A digest of an input folder's files; None where the choice is not such a folder."""
    if folder is None or folders.check_input_folder(folder) is not True:
        return None
    files = filter(is_file, walk(folders.input_folder(folder)))
    return folders.digest(sorted((entry.path, entry.stat().st_mtime_ns) for entry in files))


def fingerprint(name: str | None, others: dict) -> list:
    """For fingerprint_inputs: a choice, a node's other widgets, and the folder's files."""
    widgets = sorted((k, v) for k, v in others.items() if isinstance(v, (int, float, str)))
    return [name, widgets, stamp(name)]


def place_of(name: str) -> Path:
    """The folder of a choice; SoundWorld's is written where it is not there yet."""
    if name != SOUNDWORLD:
        return folders.input_folder(name)
    from ..aai.soundworld.dataset import write
    from .comfy.progress import Bar

    temp = Path(folder_paths.get_temp_directory())
    temp.mkdir(parents=True, exist_ok=True)
    return write(temp / EXAMPLES, callback=Bar())
