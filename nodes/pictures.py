"""Pictures on their way in and out of nodes: IMAGE is [B, H, W, C] in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
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


def curve_points(losses: list[float], total: int, begun: int = 0, most: int = 240) -> dict:
    """A loss curve for the front end: {"begun", "step", "total", "losses", "means"}, the losses after step
    `begun` and their running mean at up to `most` places, evenly spread."""
    mean, means = losses[0] if losses else 0.0, []
    for i, loss in enumerate(losses):
        mean += (loss - mean) * max(0.05, 1 / (i + 1))
        means.append(mean)
    count = min(len(losses), most)
    ends = [len(losses) * (i + 1) // count for i in range(count)]
    thinned = [sum(losses[a:b]) / (b - a) for a, b in zip([0, *ends], ends)]
    return {
        "begun": begun,
        "step": begun + len(losses),
        "total": total,
        "losses": thinned,
        "means": [means[end - 1] for end in ends],
    }


def loss_curve(
    losses: list[float], total: int, begun: int = 0, width: int = 512, height: int = 256
) -> Image.Image:
    """The losses after step `begun`, with their running mean, on an axis of `total` steps."""
    scale = 2  # drawn large and reduced: PIL's lines are not anti-aliased
    picture = Image.new("RGB", (width * scale, height * scale), (24, 24, 28))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = 16 * scale, 28 * scale, (width - 16) * scale, (height - 16) * scale
    draw.rectangle((left, top, right, bottom), outline=(70, 70, 80), width=scale)
    step = begun + len(losses)
    title = f"step {step} of {total}"
    if losses:
        mean, means = losses[0], []
        for i, loss in enumerate(losses):
            mean += (loss - mean) * max(0.05, 1 / (i + 1))
            means.append(mean)
        title += f"   loss {mean:.4f}"
        high, low = max(losses), min(losses)

        def line(values: list[float], colour: tuple[int, int, int], thick: int) -> None:
            points = [
                (
                    left + (right - left) * (begun + i + 0.5) / max(total, step),
                    bottom - (bottom - top) * (0.05 + 0.9 * (v - low) / ((high - low) or 1)),
                )
                for i, v in enumerate(values)
            ]
            draw.line(
                points if len(points) > 1 else points * 2, fill=colour, width=thick * scale, joint="curve"
            )

        line(losses, (64, 92, 120), 1)
        line(means, (255, 184, 76), 2)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    ImageDraw.Draw(picture).text((16, 9), title, fill=(220, 220, 225))
    return picture
