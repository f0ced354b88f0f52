"""A small anti-aliased canvas: shapes in picture units (0..128, y down), drawn three times larger and
reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

UNITS = 128
OVERSAMPLE = 3
Point = tuple[float, float]
Colour = tuple[int, int, int]


class Canvas:
    """An RGBA layer, transparent at first."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (UNITS * OVERSAMPLE,) * 2, (0, 0, 0, 0))
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.pen.polygon([(x * OVERSAMPLE, y * OVERSAMPLE) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.pen.rectangle([v * OVERSAMPLE for v in (left, top, right, bottom)], fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.pen.ellipse([v * OVERSAMPLE for v in (x - rx, y - ry, x + rx, y + ry)], fill=colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A thick line with round ends and joints."""
        scaled = [(x * OVERSAMPLE, y * OVERSAMPLE) for x, y in points]
        self.pen.line(scaled, fill=colour, width=round(width * OVERSAMPLE), joint="curve")
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, colour)

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, width: float, colour: Colour
    ) -> None:
        """Part of a circle, from `start` to `end` degrees (0 is right, clockwise)."""
        angles = np.radians(np.linspace(start, end, 12))
        self.line([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], width, colour)

    def pixels(self, size: int) -> np.ndarray:
        """The layer as float32 [size, size, 4] in 0..1: a shape's edge has its whole colour, a share of its
        alpha, and all that is transparent is black."""
        rgba = np.asarray(self.image, dtype=np.uint8)
        if not rgba[..., 3].all():
            rgba = rgba * (rgba[..., 3:] > 0)
        image = Image.fromarray(rgba, "RGBA")
        image = (
            image.reduce(OVERSAMPLE) if size == UNITS else image.resize((size, size), Image.Resampling.BOX)
        )
        return np.asarray(image, dtype=np.float32) / 255
