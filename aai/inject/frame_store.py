"""A film's pictures on disk while it is drawn, or their latents where another decodes them, by all that they
are made from: a film that was stopped resumes, and however long it is, its pictures fill no memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from .. import files, image
from ..errors import InputError, logged
from ..token import SoundToken

MARK = "aai-film.json"
"""The file by which a folder of pictures is known for ours."""
LOCK = "aai-film.lock"
"""The file that the process holds which draws into a folder."""


class FrameStore:
    """Pictures [3, H, W] as PNG files, or latents as safetensors, in a folder of its own. `settings` is all
    that every picture of the film depends on, as JSON; pictures of other settings that lie there are not
    found."""

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

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the folder is this process's; where it then holds no picture, it goes. Raises InputError
        where another process draws into it."""
        with contextlib.ExitStack() as after:
            with _locked(self.folder):
                # Windows removes no folder with a file that is held.
                after.callback(self._discard_unused)
                yield

    def _discard_unused(self) -> None:
        if is_ours(self.folder) and not self._is_used():
            self.discard()

    def _is_used(self) -> bool:
        return any(path.suffix in (".png", ".safetensors") for path in self.folder.iterdir())

    def path(
        self, scene: int, scale: float = 0.0, token: SoundToken | None = None, kind: str = "png"
    ) -> Path:
        """The file of a scene's picture with a token at a scale; of its source, where there is none. `kind`
        is "png", or "safetensors" for its latents."""
        digest = hashlib.sha256(self.settings.encode())
        if scene:
            digest.update(f"scene {scene}".encode())
        if token is not None:
            digest.update(f"{scale:.4f}".encode())
            for key, vectors in sorted(token.vectors.items()):
                digest.update(key.encode() + np.ascontiguousarray(vectors.float().cpu().numpy()).tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.{kind}"

    def save(self, picture: Tensor, path: Path) -> None:
        image.save(picture, path)

    def pixels(self, path: Path) -> np.ndarray:
        """A picture of the store [H, W, 3] in uint8."""
        with image.opened(path) as picture:
            return np.asarray(picture.convert("RGB"))

    def save_latents(self, latents: Tensor, path: Path) -> None:
        files.write_safetensors(path, {"latents": latents.detach().cpu().contiguous()}, {}, "A latent")

    def latents(self, path: Path) -> Tensor:
        return files.read_safetensors(path)[0]["latents"]

    def discard(self) -> None:
        """Removes the folder, with the pictures of other settings too."""
        discard(self.folder)


def is_ours(folder: Path) -> bool:
    """Whether a folder holds pictures of a FrameStore."""
    return (folder / MARK).exists()


def discard(folder: Path) -> None:
    """Removes the folder of a FrameStore."""
    with logged(f"The pictures of a finished film stayed in '{folder}': remove them by hand."):
        shutil.rmtree(folder)


def check_free(folder: Path) -> None:
    """Raises InputError where another process draws into a folder."""
    if (folder / LOCK).exists():
        with _locked(folder):
            pass


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Inside, the folder is this process's: the system lets go of it where the process is killed. Raises
    InputError where it is another's."""
    # A command that draws no film need not have it.
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"Another process draws the same film, in '{folder}': wait until it ends, or name another output."
        ) from error
    except OSError as error:
        raise InputError(
            f"'{folder / LOCK}' cannot be written ({error.strerror}): check the folder and the free space."
        ) from error
    try:
        yield
    finally:
        lock.release()
