"""SoundWorld's places, drawn flat and bold like a poster; `rng` moves things a little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import UNITS, Canvas, Colour

Rng = np.random.Generator


def sky(canvas: Canvas, top: Colour, bottom: Colour, horizon: float) -> None:
    bands = 16
    for band in range(bands):
        share = band / (bands - 1)
        colour = tuple(round(a + (b - a) * share) for a, b in zip(top, bottom))
        canvas.box(0, horizon * band / bands, UNITS, horizon * (band + 1) / bands, colour)


def city(canvas: Canvas, rng: Rng) -> None:
    ground = 104 + rng.uniform(-3, 3)
    sky(canvas, (96, 160, 226), (214, 232, 246), ground)
    walls = ((70, 84, 120), (104, 96, 140), (58, 100, 130), (122, 108, 128), (80, 90, 110))
    left = -4 + rng.uniform(-4, 2)
    for i in range(5):
        width = 25 + rng.uniform(-2, 3)
        top = (58, 34, 50, 28, 60)[i] + rng.uniform(-5, 5)
        canvas.box(left, top, left + width, ground, walls[i])
        for column in (0.18, 0.58):
            for floor in np.arange(top + 6, ground - 8, 13):
                x = left + width * column
                canvas.box(x, floor, x + 6, floor + 7, (255, 222, 120))
        left += width + 2
    canvas.box(0, ground, UNITS, UNITS, (84, 88, 98))
    canvas.box(0, ground, UNITS, ground + 4, (150, 152, 158))


def beach(canvas: Canvas, rng: Rng) -> None:
    horizon, shore = 62 + rng.uniform(-4, 4), 92 + rng.uniform(-4, 4)
    sky(canvas, (86, 180, 240), (206, 238, 250), horizon)
    canvas.ellipse(100 + rng.uniform(-6, 6), 24 + rng.uniform(-4, 4), 11, 11, (255, 226, 96))
    canvas.box(0, horizon, UNITS, shore + 4, (36, 160, 190))
    canvas.polygon([(0, shore), (64, shore + 5), (128, shore - 2), (128, 128), (0, 128)], (244, 216, 150))
    x, top = 24 + rng.uniform(-5, 5), 42 + rng.uniform(-4, 4)
    canvas.line([(x + 4, 112), (x, 78), (x + 5, top)], 5, (132, 90, 52))
    for dx, dy in ((-20, 2), (-13, -11), (6, -15), (20, -6), (19, 9), (-14, 13)):
        canvas.line(
            [(x + 5, top), (x + 5 + dx * 0.6, top + dy - 3), (x + 5 + dx, top + dy + 4)], 5.5, (40, 140, 70)
        )


def forest(canvas: Canvas, rng: Rng) -> None:
    ground = 98 + rng.uniform(-3, 3)
    sky(canvas, (140, 200, 230), (222, 240, 224), ground)
    canvas.box(0, ground, UNITS, UNITS, (92, 140, 62))
    for x in (8, 46, 84, 122):
        x, top = x + rng.uniform(-5, 5), 34 + rng.uniform(-6, 6)
        canvas.polygon([(x - 21, ground + 2), (x, top), (x + 21, ground + 2)], (46, 110, 74))
    for x in (27, 66, 104):
        x, top = x + rng.uniform(-5, 5), 22 + rng.uniform(-6, 6)
        canvas.box(x - 4, ground - 6, x + 4, ground + 14, (110, 72, 44))
        canvas.polygon([(x - 22, ground), (x, top + 22), (x + 22, ground)], (26, 84, 54))
        canvas.polygon([(x - 16, top + 42), (x, top), (x + 16, top + 42)], (34, 98, 62))


def desert(canvas: Canvas, rng: Rng) -> None:
    horizon = 70 + rng.uniform(-4, 4)
    sky(canvas, (250, 176, 104), (255, 228, 170), horizon + 12)
    canvas.ellipse(30 + rng.uniform(-6, 6), 30 + rng.uniform(-4, 4), 13, 13, (255, 246, 196))
    canvas.polygon(
        [(0, horizon + 6), (38, horizon - 6), (84, horizon + 10), (128, horizon - 2), (128, 128), (0, 128)],
        (226, 164, 92),
    )
    canvas.polygon([(0, 98), (50, 88), (128, 106), (128, 128), (0, 128)], (204, 134, 70))
    x, base = 102 + rng.uniform(-6, 6), 104 + rng.uniform(-3, 3)
    green = (62, 122, 70)
    canvas.line([(x, base), (x, base - 40)], 9, green)
    canvas.line([(x, base - 14), (x - 13, base - 14), (x - 13, base - 28)], 6, green)
    canvas.line([(x, base - 20), (x + 13, base - 20), (x + 13, base - 33)], 6, green)


def village(canvas: Canvas, rng: Rng) -> None:
    horizon = 74 + rng.uniform(-3, 3)
    sky(canvas, (118, 190, 244), (224, 240, 250), horizon + 8)
    canvas.ellipse(30, horizon + 26, 70, 32, (122, 186, 88))
    canvas.ellipse(108, horizon + 30, 62, 34, (104, 170, 78))
    canvas.box(0, horizon + 24, UNITS, UNITS, (112, 178, 80))
    for x, base, size in ((24, 92, 30), (66, 100, 36), (106, 90, 28)):
        x, base = x + rng.uniform(-4, 4), base + rng.uniform(-3, 3)
        half, wall = size / 2, size * 0.6
        canvas.box(x - half, base - wall, x + half, base, (248, 236, 214))
        canvas.polygon(
            [(x - half - 5, base - wall), (x, base - wall - size * 0.55), (x + half + 5, base - wall)],
            (202, 66, 52),
        )
        canvas.box(x - 4, base - wall * 0.62, x + 4, base, (122, 78, 50))


DRAW: dict[str, Callable[[Canvas, Rng], None]] = {
    "city": city,
    "beach": beach,
    "forest": forest,
    "desert": desert,
    "village": village,
}
