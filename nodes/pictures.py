"""Pictures on their way in and out of nodes: IMAGE is [B, H, W, C] in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..aai.errors import InputError


def square(images: Tensor, side: int) -> Tensor:
    """IMAGE [B, H, W, C] as [B, 3, side, side]: transparency on white, the middle square, resized.

    Raises InputError where there is no picture.
    """
    if not len(images):
        raise InputError("There are no reference pictures: connect 3 to 5.")
    colour = images[..., :3]
    if images.shape[-1] == 1:
        colour = images.expand(-1, -1, -1, 3)
    elif images.shape[-1] == 4:
        colour = colour * images[..., 3:] + (1 - images[..., 3:])
    pictures = colour.movedim(-1, 1)
    height, width = pictures.shape[2:]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    pictures = pictures[:, :, top : top + edge, left : left + edge]
    if edge == side:
        return pictures.contiguous()
    return F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def as_image(picture: Image.Image) -> Tensor:
    """A PIL picture as IMAGE [1, H, W, 3]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]
