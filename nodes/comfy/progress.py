"""Progress bars on nodes, and Cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
from PIL import Image


class Bar:
    """A callback(done, total): the node's progress bar; raises when the user cancels."""

    def __init__(self, total: int = 1):
        self.bar = comfy.utils.ProgressBar(total)

    def __call__(self, done: int, total: int, picture: Image.Image | None = None) -> None:
        # The bar's hook sees Cancel too, but newer versions call it at intervals only.
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.bar.update_absolute(done, total, None if picture is None else ("JPEG", picture, 512))


class LossCurve:
    """A training callback(step, total, loss): the bar with a picture of the losses, twice a second."""

    def __init__(self, total: int, draw: Callable[[list[float], int], Image.Image], seconds: float = 0.5):
        self.bar, self.draw, self.seconds = Bar(total), draw, seconds
        self.losses: list[float] = []
        self.shown = 0.0

    def __call__(self, step: int, total: int, loss: float) -> None:
        self.losses.append(loss)
        picture = None
        if time.monotonic() - self.shown >= self.seconds or step >= total:
            picture = self.draw(self.losses, total)
            self.shown = time.monotonic()
        self.bar(step, total, picture)
