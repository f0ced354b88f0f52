"""Progress bars on nodes, and Cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
from PIL import Image, ImageOps
from torch import Tensor

from ...aai.image import to_pil


class Bar:
    """A callback(done, total): the node's progress bar; raises when the user cancels."""

    def __init__(self, total: int = 1):
        self.bar = comfy.utils.ProgressBar(total)

    def __call__(self, done: int, total: int, picture: Image.Image | None = None) -> None:
        # The bar's hook sees Cancel too, but newer versions call it at intervals only.
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.bar.update_absolute(done, total, None if picture is None else ("JPEG", picture, 512))


class LossCurve:
    """A training callback(step, total, loss): the bar with a picture of the losses, twice a second, and below
    it the last `sample`, a picture that the token so far has drawn."""

    def __init__(self, total: int, draw: Callable[[list[float], int], Image.Image], seconds: float = 0.5):
        self.bar, self.draw, self.seconds, self.total = Bar(total), draw, seconds, total
        self.losses: list[float] = []
        self.shown = 0.0
        self.sample: Image.Image | None = None

    def show(self, picture: Tensor) -> None:
        """Shows a sample [3, H, W] in [0, 1] from now on."""
        self.sample = to_pil(picture)
        self.bar(len(self.losses), self.total, _below(self.draw(self.losses, self.total), self.sample))

    def __call__(self, step: int, total: int, loss: float) -> None:
        self.losses.append(loss)
        picture = None
        if time.monotonic() - self.shown >= self.seconds or step >= total:
            picture = _below(self.draw(self.losses, total), self.sample)
            self.shown = time.monotonic()
        self.bar(step, total, picture)


def _below(curve: Image.Image, sample: Image.Image | None) -> Image.Image:
    """A curve with a sample below it, as wide, in a square that the node shows whole."""
    if sample is None:
        return curve
    whole = Image.new("RGB", (curve.width, curve.width), (24, 24, 28))
    whole.paste(curve, (0, 0))
    sample = ImageOps.contain(sample, (curve.width, curve.width - curve.height))
    whole.paste(sample, ((curve.width - sample.width) // 2, curve.height))
    return whole
