"""The templates' own sounds and picture, placed in the input folder, so that each template runs as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import folder_paths

from ..aai.errors import logger

FOLDER = Path(__file__).parents[1] / "example_workflows" / "input"

log = logger(__name__)


def place() -> None:
    """Copies the files that the input folder lacks; what is there is left alone."""
    target = Path(folder_paths.get_input_directory())
    for file in sorted(FOLDER.glob("*")):
        try:
            target.mkdir(parents=True, exist_ok=True)
            if not (target / file.name).exists():
                shutil.copyfile(file, target / file.name)
        except OSError as error:
            log.warning("The templates' %s was not placed in the input folder: %s.", file.name, error)
