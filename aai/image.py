"""Picture files in and out: tensors [3, H, W] in [0, 1]."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from . import files
from .errors import InputError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""What pictures are written as, by their names' endings."""

SOFTWARE, MAKER = 0x0131, "aai"
"""EXIF's tag for what wrote a picture, and what it says of ours."""


def load(path: str | os.PathLike | BinaryIO, size: int | None = None, name: str = "") -> Tensor:
    """A picture file as [3, H, W] in [0, 1], upright (as it lies, where its EXIF is damaged), transparency
    over white; `size` takes its middle square at so many pixels a side. `name` is what errors call it, where
    it is an open file.

    Raises InputError for a file that is missing or no picture.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            _turn_upright(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = _eight_bit(image).convert("RGB")
            if size is not None:
                image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"'{name or path}' cannot be read as a picture ({error}): leave it out or save it again."
        ) from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def to_pil(picture: Tensor) -> Image.Image:
    """A picture [3, H, W] in [0, 1] as an 8-bit PIL picture."""
    from PIL import Image

    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)


def save(picture: Tensor | Image.Image, path: str | os.PathLike) -> None:
    """Writes a picture [3, H, W] in [0, 1], or a PIL one, in one move, in the format that its ending says.

    Raises InputError for another ending than FORMATS', or where the disk does not take it.
    """
    from PIL import Image

    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise InputError(f"'{path}' is no name of a picture: let it end in {' or '.join(FORMATS)}.")
    content, exif = io.BytesIO(), Image.Exif()
    exif[SOFTWARE] = MAKER
    picture = picture if isinstance(picture, Image.Image) else to_pil(picture)
    picture.save(content, format=kind, exif=exif, quality=95)
    files.write(path, content.getvalue(), "The picture")


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a picture that this package wrote."""
    from PIL import Image

    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
            return image.getexif().get(SOFTWARE) == MAKER
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _turn_upright(image: Image.Image) -> None:
    from PIL import ImageOps

    # Damaged EXIF is no reason to leave a picture out; pixels that cannot be read say so when they are used.
    with contextlib.suppress(struct.error, SyntaxError, TypeError, ValueError):
        # In place, because the turning comes before the other tags are read.
        ImageOps.exif_transpose(image, in_place=True)


def _eight_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of 16-bit grey cuts off everything above 255.
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
