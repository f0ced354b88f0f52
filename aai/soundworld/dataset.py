"""A small dataset of SoundWorld's own, laid out as a user's would be: `class/clip.wav` beside
`class/clip.jpg`.

Its classes are events at two strengths, "light rain" and "strong rain": finer than the encoder's labels,
so there is something to teach it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import replace
from .captions import LEVELS, phrase
from .world import EVENTS, SCENES

STRENGTHS = (1, 3)
"""Which of LEVELS."""


def write(
    folder: str | os.PathLike,
    each: int = 6,
    seconds: float = 5.0,
    seed: int = 500,
    callback: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes `each` sounds and pictures of every class into a new folder; an existing one is kept.

    `callback(classes done, classes)` may raise to stop; then nothing is left. Raises InputError where the
    disk does not take it.
    """
    from PIL import Image

    from .. import audio
    from .pictures import render
    from .sounds import synthesize

    folder = Path(folder)
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    rng = np.random.default_rng(seed)
    classes = [(event, strength) for event in EVENTS for strength in STRENGTHS]
    try:
        for done, (event, strength) in enumerate(classes):
            group = unfinished / phrase(event, (strength + 0.5) / len(LEVELS))
            group.mkdir(parents=True)
            for i in range(each):
                intensity = (strength + rng.uniform(0.1, 0.9)) / len(LEVELS)
                number = seed + 100 * done + i
                audio.save(synthesize(event, intensity, number, seconds), group / f"{i}.wav")
                scene = SCENES[int(rng.integers(len(SCENES)))]
                Image.fromarray(render(scene, event, intensity, number)).save(group / f"{i}.jpg", quality=92)
            if callback:
                callback(done + 1, len(classes))
        replace(unfinished, folder)
    except OSError as error:
        raise InputError(
            f"SoundWorld's examples cannot be written to '{folder}' ({error.strerror or error}): check the "
            "folder and the free space."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
