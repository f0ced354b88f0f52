"""Pictures on their way in and out of nodes: IMAGE is [B, H, W, C] in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..aai.charts import curve_points, loss_curve
from ..aai.errors import InputError

SMALLEST = 32
"""Side of a reference picture, in pixels, below which nothing is to be seen in it."""


def square(images: Tensor, side: int) -> Tensor:
    """IMAGE [B, H, W, C] as [B, 3, side, side]: transparency on white, the middle square, resized.

    Raises InputError where there is no picture, or too small a one.
    """
    if not len(images):
        raise InputError("There are no reference pictures: connect 3 to 5.")
    height, width = images.shape[1:3]
    edge = min(height, width)
    if edge < SMALLEST:
        raise InputError(
            f"A reference picture of {width} x {height} pixels shows too little: take {SMALLEST} or more a "
            "side."
        )
    colour = images[..., :3]
    if images.shape[-1] == 1:
        colour = images.expand(-1, -1, -1, 3)
    elif images.shape[-1] == 4:
        colour = colour * images[..., 3:] + (1 - images[..., 3:])
    pictures = colour.movedim(-1, 1)
    top, left = (height - edge) // 2, (width - edge) // 2
    pictures = pictures[:, :, top : top + edge, left : left + edge]
    if edge == side:
        return pictures.contiguous()
    return F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def as_image(picture: Image.Image) -> Tensor:
    """A PIL picture as IMAGE [1, H, W, 3]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


def draw_curve(losses: list[float], total: int, begun: int = 0) -> tuple[Tensor, dict]:
    """The loss at each step of `total`, after `begun` that an earlier run took: as IMAGE [1, H, W, 3], and as
    the points that the node's own view draws."""
    image = as_image(loss_curve(losses, total, begun))
    return image, {"curve": [curve_points(losses, total, begun)]}
