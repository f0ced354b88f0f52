"""Progress bars on nodes, and Cancel."""

from __future__ import annotations

import time

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from ...aai.charts import curve_points
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
    """A training callback(step, total, loss): the node's progress bar, and its curve, sent twice a second.

    `begun` is the step after which the run began, more than 0 where it resumes an earlier run's token.
    """

    def __init__(self, total: int):
        self.bar, self.total = Bar(total), total
        self.losses: list[float] = []
        self.begun = 0
        self.shown = 0.0

    def show(self, picture: Tensor) -> None:
        """Shows a sample [3, H, W] in [0, 1], which the token so far has drawn."""
        self.bar(self.begun + len(self.losses), self.total, to_pil(picture))

    def __call__(self, step: int, total: int, loss: float) -> None:
        self.losses.append(loss)
        self.begun = step - len(self.losses)
        if time.monotonic() - self.shown >= 0.5 or step >= total:
            send("aai.curve", {"curve": [curve_points(self.losses, total, self.begun)]})
            self.shown = time.monotonic()
        self.bar(step, total)


def send(event: str, output: dict) -> None:
    """Sends the front end {"node": the id of the node that runs now, **output} as an event of that name."""
    running = get_executing_context()
    if running is not None:
        from server import PromptServer  # heavy, and there already where a node runs

        server = PromptServer.instance
        server.send_sync(event, {"node": running.node_id, **output}, server.client_id)
