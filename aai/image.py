"""Picture files in and out: tensors [3, H, W] in [0, 1]."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from . import files
from .errors import InputError, first_line, is_out_of_memory

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Pillow's formats in which pictures are written, by file ending."""

SOFTWARE, MAKER = 0x0131, "aai"
"""EXIF's tag for the software that wrote a picture, and its value in ours."""

FORMATS = tuple("PNG JPEG MPO WEBP AVIF HEIF GIF BMP DIB TIFF JPEG2000 PPM".split())
"""What a picture may be, whatever it is called, as Pillow names it. Of its other formats one starts another
program (EPS: Ghostscript), and others hold no picture that stands for the file."""

LARGEST = 110_000_000
"""Pixels that are decoded at most: above the largest phone cameras' 108 million, and 1.3 GB as float32.
Of a larger JPEG that is asked for small, fewer are decoded."""

NEAR_ONE = 16
"""What floats may reach where 1 is white and lights are brighter. Where white is 255 they reach more, or all
is black."""
NEAR_ZERO = -0.1
"""What floats may fall to where 0 is black: a resampled picture has such seams."""
BITS, PHOTOMETRIC, SAMPLES = 258, 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2
"""TIFF's tags (BitsPerSample, PhotometricInterpretation, SampleFormat), and two values of theirs."""


def formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow reads (HEIF: with a plug-in of its own)."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def suffixes() -> frozenset[str]:
    """The endings of the files that `load` reads, in folders of them: Pillow's own list, in lower case."""
    from PIL import Image

    readable = formats()
    return frozenset(end for end, name in Image.registered_extensions().items() if name in readable)


class _File(io.BufferedReader):
    """A file of which no more is read than it holds, whatever a damaged header asks for: Python allocates
    the bytes that are asked for before it reads them."""

    def __init__(self, path: str | os.PathLike):
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = max(0, min(size, self.size - self.tell()))
        return super().read(size)


def _content(path: str | os.PathLike | BinaryIO) -> contextlib.AbstractContextManager[BinaryIO]:
    if hasattr(path, "read"):
        return contextlib.nullcontext(path)
    files.check_file(path)
    return _File(path)


@contextlib.contextmanager
def opened(path: str | os.PathLike | BinaryIO, name: str = "") -> Iterator[Image.Image]:
    """A picture file, open and not yet decoded. `name` is what errors call it, where it is an open file.

    Raises InputError for a file that is missing or not a picture, and for errors of decoding inside.
    """
    from PIL import Image

    try:
        with _content(path) as content, Image.open(content, formats=formats()) as image:
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"'{name or path}' has too many pixels to be read ({error}): save it smaller."
        ) from error
    # What a damaged picture makes Pillow raise depends on its bytes.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "its format is not known" if unknown else getattr(error, "strerror", "") or first_line(error)
        raise InputError(
            f"'{name or path}' cannot be read as a picture ({reason}): leave it out or save it again."
        ) from error


def load(path: str | os.PathLike | BinaryIO, size: int | None = None, name: str = "") -> Tensor:
    """A picture file as [3, H, W] in [0, 1], upright (as it lies, where its EXIF is damaged), transparency
    over white; `size` takes its middle square at so many pixels a side. `name` is what errors call it, where
    it is an open file.

    Raises InputError for a file that is missing or not a picture, or that has more than LARGEST pixels.
    """
    import torch

    return torch.from_numpy(_decoded(path, size, name)).permute(2, 0, 1).float().div_(255)


def _decoded(path: str | os.PathLike | BinaryIO, size: int | None, name: str) -> np.ndarray:
    # A function of its own, so that all of its copies but the last are freed.
    import numpy as np
    from PIL import Image, ImageOps

    with opened(path, name) as image:
        if size is not None:
            # A JPEG can decode to a half, a quarter or an eighth; the filter then reduces by two or more.
            image.draft("RGB", (2 * size, 2 * size))
        _check_size(image, name or path)
        _turn_upright(image)
        # First, because Pillow's own conversion of deep grey cuts off everything above 255.
        image = _eight_bit(image, name or path)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image)
            image = white
        if image.mode != "RGB":
            image = image.convert("RGB")
        if size is not None:
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        return np.array(image)


def middle_square(pictures: Tensor, size: int) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] with the short side resized to `size` pixels (bicubic), and of the long
    one the middle, [B, 3, size, size]; as torchvision resizes and cuts, which public towers use."""
    from torch.nn import functional as F

    pictures = pictures.float()
    height, width = pictures.shape[-2:]
    if (height, width) == (size, size):
        return pictures
    # Truncated, not rounded.
    shape = [side * size // min(height, width) for side in (height, width)]
    pictures = F.interpolate(pictures, shape, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (round((side - size) / 2) for side in shape)
    return pictures[..., top : top + size, left : left + size]


def to_pil(picture: Tensor) -> Image.Image:
    """A picture [3, H, W] in [0, 1] as an 8-bit PIL picture."""
    from PIL import Image

    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)


def save(picture: Tensor | Image.Image, path: str | os.PathLike) -> None:
    """Writes a picture [3, H, W] in [0, 1], or a PIL one, in one move, in the format of the file's ending.

    Raises InputError for another ending than those of WRITTEN, or where the disk does not take it.
    """
    from PIL import Image

    kind = WRITTEN.get(Path(path).suffix.lower())
    if kind is None:
        raise InputError(f"'{path}' is no name of a picture: let it end in {' or '.join(WRITTEN)}.")
    content, exif = io.BytesIO(), Image.Exif()
    exif[SOFTWARE] = MAKER
    picture = picture if isinstance(picture, Image.Image) else to_pil(picture)
    picture.save(content, format=kind, exif=exif, quality=95)
    files.write(path, content.getvalue(), "The picture")


def _check_size(image: Image.Image, name: str | os.PathLike) -> None:
    width, height = image.size
    if width * height > LARGEST:
        raise InputError(
            f"'{name}' has {width} x {height} pixels, more than the {LARGEST // 10**6} million that are "
            "read: save it smaller."
        )


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a picture that this package wrote."""
    try:
        with opened(path) as image:
            return image.getexif().get(SOFTWARE) == MAKER
    except InputError:
        return False


def _turn_upright(image: Image.Image) -> None:
    from PIL import ImageOps

    # Damaged EXIF is no reason to leave a picture out; pixels that cannot be read say so when they are used.
    with contextlib.suppress(struct.error, SyntaxError, TypeError, ValueError):
        # In place, because the turning comes before the other tags are read.
        ImageOps.exif_transpose(image, in_place=True)


def _eight_bit(image: Image.Image, name: str | os.PathLike) -> Image.Image:
    """A picture of grey in 16 bits, 32 bits or floats in 8, where its file calls it transparent in white; any
    other as it is. Raises InputError as `_white_of` does."""
    import numpy as np
    from PIL import Image

    clear = image.info.get("transparency")
    if image.mode[0] not in "IF":
        # Pillow reads 16-bit colours in 8, but not the one that is transparent.
        if isinstance(clear, tuple) and max(clear) > 255:
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        return image
    values = np.asarray(image)
    grey = np.rint(values * np.float32(255 / _white_of(values, image, name))).clip(0, 255).astype(np.uint8)
    if _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _white_of(values: np.ndarray, image: Image.Image, name: str | os.PathLike) -> int:
    """Which of the values [H, W] of deep grey is white: 1 (floats), 255, 65535, or what a TIFF of 12 or 16
    bits says. Floats and TIFFs of 32 bits do not say; it is the least of these that none exceeds, floats'
    lights (`NEAR_ONE`) aside. Raises InputError, which calls the picture `name`, where there is none, and for
    values below 0, floats' dark seams (`NEAR_ZERO`) aside."""
    bits = _tag(image, BITS)
    if bits in (12, 16) and image.mode != "F":
        return 2 ** (bits - (_tag(image, SAMPLES) == SIGNED)) - 1
    if image.mode != "F" and (values.dtype.itemsize == 2 or image.format != "TIFF"):
        return 65535
    least, most = float(values.min()), float(values.max())
    floats = [(1, NEAR_ONE)] if image.mode == "F" else []
    white = next((white for white, reached in (*floats, (255, 255), (65535, 65535)) if most <= reached), None)
    # Nothing is above what is not a number.
    if white is None or not least >= (NEAR_ZERO if image.mode == "F" else 0):
        raise InputError(
            f"'{name}' holds values from {least:.6g} to {most:.6g}, which do not tell what is white: save "
            "it as an 8-bit picture."
        )
    return white


def _tag(image: Image.Image, number: int) -> int | None:
    """A TIFF's tag, of its first channel; None where there is none."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value
