"""SoundWorld's events: what is drawn over a scene, and how the light changes, at an intensity in (0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .canvas import UNITS, Canvas, Colour

Rng = np.random.Generator

# The light of a scene under an event, per colour, at intensity 0 and at 1.
LIGHT: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "rain": ((0.84, 0.88, 0.93), (0.44, 0.52, 0.66)),
    "thunder": ((0.52, 0.48, 0.66), (0.26, 0.22, 0.42)),
    "fire": ((1.0, 0.95, 0.88), (1.0, 0.72, 0.52)),
    "sea waves": ((0.98, 1.0, 1.0), (0.86, 0.95, 1.0)),
    "wind": ((0.96, 0.98, 0.98), (0.78, 0.84, 0.86)),
    "fireworks": ((0.26, 0.28, 0.46), (0.22, 0.22, 0.40)),
}
INK = (40, 34, 48)


def rain(canvas: Canvas, i: float, rng: Rng) -> None:
    columns = 4 + round(6 * i)
    length, width = 9 + 11 * i, 2.6 + 2.2 * i
    for row in range(3 + round(2 * i)):
        for column in range(columns):
            x = (column + 0.5 * (row % 2) + rng.uniform(-0.25, 0.25)) * (UNITS + 16) / columns
            y = row * UNITS / (3 + round(2 * i)) + rng.uniform(0, 14)
            canvas.line([(x, y), (x - length * 0.35, y + length)], width, (206, 232, 255))


def thunder(canvas: Canvas, i: float, rng: Rng) -> None:
    count = 1 + (i > 0.4) + (i > 0.75)
    width, reach = 3.4 + 5 * i, 62 + 42 * i
    for bolt in range(count):
        x = (64, 28, 102)[bolt] + rng.uniform(-9, 9)
        turns = [(x, -4.0)]
        for k in range(1, 5):
            turns.append((x + (9 if k % 2 else -7) + rng.uniform(-3, 3), reach * k / 4))
        canvas.line(turns, width + 6 + 4 * i, (150, 120, 214))
        canvas.line(turns, width, (255, 246, 170))


def _flame(x: float, base: float, width: float, height: float, lean: float) -> list[tuple[float, float]]:
    steps = np.linspace(0, 1, 14)
    profile = 0.5 * (1 - steps) ** 1.2 * (0.6 + 2.0 * steps)
    left = [(x - width * p + lean * s * s, base - height * s) for p, s in zip(profile, steps)]
    right = [(x + width * p + lean * s * s, base - height * s) for p, s in zip(profile, steps)]
    return left + right[::-1]


def fire(canvas: Canvas, i: float, rng: Rng) -> None:
    x, base = 64 + rng.uniform(-8, 8), 122.0
    width, height = 20 + 46 * i, 24 + 78 * i
    for dx, share in ((-0.5, 0.62), (0.5, 0.7), (0.0, 1.0)):
        lean = rng.uniform(-7, 7)
        for colour, part in (((226, 58, 24), 1.0), ((255, 146, 28), 0.7), ((255, 236, 120), 0.4)):
            canvas.polygon(_flame(x + dx * width, base, width * part, height * share * part, lean), colour)
    canvas.line([(x - width * 0.7, base + 1), (x + width * 0.7, base + 1)], 6, (88, 54, 38))


def sea_waves(canvas: Canvas, i: float, rng: Rng) -> None:
    top = 110 - 54 * i
    rows = 2 + round(2 * i)
    tall, period = 4 + 9 * i, 30 + 14 * i
    for row in range(rows):
        y = top + (UNITS - top) * row / rows
        phase = rng.uniform(0, period)
        xs = np.linspace(-2, UNITS + 2, 66)
        crest = y - tall * np.abs(np.sin(np.pi * (xs + phase) / period)) ** 1.5
        blue = tuple(round(c * (1 - 0.13 * row)) for c in (34, 116, 190))
        canvas.polygon([*zip(xs, crest), (UNITS + 2, UNITS), (-2, UNITS)], (244, 250, 255))
        canvas.polygon([*zip(xs, crest + 4 + 3 * i), (UNITS + 2, UNITS), (-2, UNITS)], blue)


def wind(canvas: Canvas, i: float, rng: Rng) -> None:
    count = 2 + round(4 * i)
    width, length, curl = 3 + 3 * i, 36 + 44 * i, 6 + 5 * i
    for k in range(count):
        y = 16 + 88 * (k + 0.5) / count + rng.uniform(-4, 4)
        end = 44 + length / 2 + (14 if k % 2 else -4) + rng.uniform(-8, 8)
        angles = np.radians(np.linspace(90, -200, 14))
        turn = [(end + curl * math.cos(a), y - curl + curl * math.sin(a)) for a in angles]
        canvas.line([(end - length, y + 2), (end - length / 2, y - 2), *turn], width, (250, 253, 255))


def fireworks(canvas: Canvas, i: float, rng: Rng) -> None:
    colours: tuple[Colour, ...] = (
        (255, 92, 120),
        (255, 214, 80),
        (96, 222, 255),
        (150, 255, 130),
        (240, 140, 255),
    )
    places = ((64, 36), (28, 30), (100, 28), (42, 70), (90, 68))
    radius = 13 + 13 * i
    for k in range(1 + round(4 * i)):
        x, y = places[k][0] + rng.uniform(-6, 6), places[k][1] + rng.uniform(-6, 6)
        turn, colour = rng.uniform(0, 0.6), colours[(k + int(rng.integers(5))) % 5]
        for spoke in range(10):
            a = turn + spoke * math.tau / 10
            far = (x + radius * math.cos(a), y + radius * math.sin(a))
            canvas.line(
                [(x + radius * 0.35 * math.cos(a), y + radius * 0.35 * math.sin(a)), far], 2.8 + i, colour
            )
        canvas.ellipse(x, y, 3.5 + i, 3.5 + i, (255, 250, 230))


def _sound_arcs(canvas: Canvas, x: float, y: float, radius: float, i: float, towards: float) -> None:
    for k in range(1 + (i > 0.4) + (i > 0.75)):
        canvas.arc(x, y, radius + 8 * k, towards - 32, towards + 32, 3.6 + i, (255, 244, 130))


def dog(canvas: Canvas, i: float, rng: Rng) -> None:
    w = 34 + 50 * i
    x, base = 58 + rng.uniform(-7, 7), 120 + rng.uniform(-2, 2)
    brown, dark = (150, 92, 46), (96, 56, 30)
    for dx in (-0.32, -0.18, 0.12, 0.26):
        canvas.box(x + dx * w - 0.045 * w, base - 0.36 * w, x + dx * w + 0.045 * w, base, brown)
    canvas.line([(x - 0.36 * w, base - 0.5 * w), (x - 0.5 * w, base - 0.74 * w)], 0.09 * w, brown)
    canvas.ellipse(x - 0.02 * w, base - 0.45 * w, 0.4 * w, 0.18 * w, brown)
    canvas.ellipse(x + 0.34 * w, base - 0.7 * w, 0.19 * w, 0.17 * w, brown)
    canvas.ellipse(x + 0.5 * w, base - 0.64 * w, 0.11 * w, 0.08 * w, (190, 134, 84))
    canvas.ellipse(x + 0.58 * w, base - 0.67 * w, 0.045 * w, 0.04 * w, INK)
    canvas.ellipse(x + 0.23 * w, base - 0.7 * w, 0.075 * w, 0.16 * w, dark)
    canvas.ellipse(x + 0.39 * w, base - 0.75 * w, 0.032 * w, 0.032 * w, INK)
    _sound_arcs(canvas, x + 0.5 * w, base - 0.64 * w, 0.24 * w, i, -10)


def rooster(canvas: Canvas, i: float, rng: Rng) -> None:
    w = 32 + 48 * i
    x, base = 62 + rng.uniform(-7, 7), 121 + rng.uniform(-2, 2)
    white, red, gold = (252, 248, 240), (222, 40, 44), (250, 178, 40)
    for dx in (-0.08, 0.1):
        canvas.line([(x + dx * w, base - 0.26 * w), (x + dx * w, base)], max(3, 0.06 * w), gold)
    for turn, colour in ((-150, (30, 110, 90)), (-132, (40, 70, 130)), (-114, (130, 40, 90))):
        a = math.radians(turn)
        tip = (x - 0.2 * w + 0.42 * w * math.cos(a), base - 0.44 * w + 0.5 * w * math.sin(a))
        canvas.line([(x - 0.2 * w, base - 0.42 * w), tip], 0.15 * w, colour)
    canvas.ellipse(x, base - 0.42 * w, 0.33 * w, 0.23 * w, white)
    canvas.polygon(
        [
            (x + 0.06 * w, base - 0.45 * w),
            (x + 0.2 * w, base - 0.86 * w),
            (x + 0.4 * w, base - 0.82 * w),
            (x + 0.32 * w, base - 0.4 * w),
        ],
        white,
    )
    for dx in (0.18, 0.28, 0.38):
        canvas.ellipse(x + dx * w, base - 0.98 * w, 0.07 * w, 0.08 * w, red)
    canvas.ellipse(x + 0.29 * w, base - 0.85 * w, 0.15 * w, 0.13 * w, white)
    canvas.polygon(
        [(x + 0.4 * w, base - 0.92 * w), (x + 0.58 * w, base - 0.84 * w), (x + 0.4 * w, base - 0.78 * w)],
        gold,
    )
    canvas.ellipse(x + 0.4 * w, base - 0.69 * w, 0.06 * w, 0.09 * w, red)
    canvas.ellipse(x + 0.32 * w, base - 0.88 * w, 0.035 * w, 0.035 * w, INK)
    _sound_arcs(canvas, x + 0.48 * w, base - 0.84 * w, 0.24 * w, i, -10)


def helicopter(canvas: Canvas, i: float, rng: Rng) -> None:
    w = 38 + 52 * i
    x, y = 60 + rng.uniform(-7, 7), 46 + rng.uniform(-5, 5)
    body, dark = (238, 84, 44), (60, 50, 66)
    canvas.polygon(
        [
            (x - 0.1 * w, y - 0.07 * w),
            (x - 0.6 * w, y - 0.05 * w),
            (x - 0.6 * w, y + 0.02 * w),
            (x - 0.05 * w, y + 0.1 * w),
        ],
        body,
    )
    canvas.polygon([(x - 0.52 * w, y), (x - 0.66 * w, y - 0.2 * w), (x - 0.57 * w, y - 0.2 * w)], body)
    canvas.ellipse(x + 0.12 * w, y, 0.29 * w, 0.18 * w, body)
    canvas.ellipse(x + 0.24 * w, y - 0.02 * w, 0.14 * w, 0.11 * w, (186, 230, 250))
    thick = max(3, 0.055 * w)
    canvas.line([(x + 0.1 * w, y - 0.17 * w), (x + 0.1 * w, y - 0.28 * w)], thick, dark)
    canvas.line([(x - 0.4 * w, y - 0.28 * w), (x + 0.6 * w, y - 0.28 * w)], thick, dark)
    canvas.line([(x - 0.12 * w, y + 0.26 * w), (x + 0.38 * w, y + 0.26 * w)], thick, dark)
    for dx in (0.0, 0.24):
        canvas.line([(x + dx * w, y + 0.14 * w), (x + dx * w, y + 0.26 * w)], thick, dark)
    _sound_arcs(canvas, x + 0.1 * w, y + 0.18 * w, 0.26 * w, i, 90)


def clock(canvas: Canvas, i: float, rng: Rng) -> None:
    r = 17 + 25 * i
    x, y = 64 + rng.uniform(-7, 7), 112 - r + rng.uniform(-2, 2)
    rim = (126, 48, 118)
    for dx in (-0.6, 0.6):
        canvas.line([(x + dx * r * 0.9, y + 0.8 * r), (x + dx * r * 1.2, y + 1.22 * r)], max(4, 0.2 * r), rim)
        canvas.ellipse(x + dx * r, y - 0.95 * r, 0.34 * r, 0.3 * r, (232, 190, 70))
    canvas.ellipse(x, y, r, r, rim)
    canvas.ellipse(x, y, r * 0.78, r * 0.78, (255, 252, 240))
    for tick in range(4):
        a = tick * math.pi / 2
        canvas.ellipse(x + 0.62 * r * math.cos(a), y + 0.62 * r * math.sin(a), 0.07 * r, 0.07 * r, INK)
    a, b = rng.uniform(0, math.tau), rng.uniform(0, math.tau)
    canvas.line([(x, y), (x + 0.36 * r * math.cos(a), y + 0.36 * r * math.sin(a))], max(3.4, 0.13 * r), INK)
    canvas.line([(x, y), (x + 0.56 * r * math.cos(b), y + 0.56 * r * math.sin(b))], max(3, 0.1 * r), INK)
    for towards in (-20, 200):
        _sound_arcs(canvas, x, y, r + 9, i, towards)


DRAW: dict[str, Callable[[Canvas, float, Rng], None]] = {
    "rain": rain,
    "thunder": thunder,
    "fire": fire,
    "sea waves": sea_waves,
    "wind": wind,
    "fireworks": fireworks,
    "dog": dog,
    "rooster": rooster,
    "helicopter": helicopter,
    "clock": clock,
}
