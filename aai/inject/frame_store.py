"""A film's pictures on disk while it is drawn, by all that they are made from: a film that was stopped
resumes, and however long it is, its pictures fill no memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from .. import files, image
from ..errors import InputError, logged
from ..token import SoundToken
from .film import Shot

MARK = "aai-film.json"
"""The file by which a folder of pictures is known for ours."""


class FrameStore:
    """Pictures [3, H, W] as PNG files in a folder of its own. `settings` is all that every picture of the
    film depends on, as JSON; pictures of other settings that lie there are not found."""

    def __init__(self, folder: Path, settings: Mapping[str, object]):
        self.folder = folder
        self.settings = json.dumps(dict(settings), sort_keys=True)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, but the film's pictures are kept there: move it.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The film's pictures cannot be kept in '{folder}' ({error.strerror}): check the folder and "
                "the free space."
            ) from error
        files.write(folder / MARK, self.settings.encode(), "The film's settings")

    def path(self, shot: Shot | None, token: SoundToken | None) -> Path:
        """The file of a shot with its token; of the source, where both are None."""
        digest = hashlib.sha256(self.settings.encode())
        if shot is not None:
            digest.update(f"{shot.scale:.4f}".encode())
            for key, vectors in sorted(token.vectors.items()):
                digest.update(key.encode() + np.ascontiguousarray(vectors.float().cpu().numpy()).tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.png"

    def save(self, picture: Tensor, path: Path) -> None:
        image.save(picture, path)

    def pixels(self, path: Path) -> np.ndarray:
        """A picture of the store [H, W, 3] in uint8."""
        with image.opened(path) as picture:
            return np.asarray(picture.convert("RGB"))

    def discard(self) -> None:
        """Removes the folder, with the pictures of other settings too."""
        with logged(f"The pictures of a finished film stayed in '{self.folder}': remove them by hand."):
            shutil.rmtree(self.folder)
