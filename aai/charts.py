"""Contact sheets and plots, drawn with Pillow alone."""

from __future__ import annotations

import io
import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from . import files
from .errors import logger
from .image import to_pil

log = logger(__name__)

INK, PAPER, FAINT, RULE = (34, 32, 40), (250, 248, 244), (120, 114, 124), (222, 218, 210)
COLOURS = ((64, 84, 178), (204, 102, 51), (52, 140, 108), (150, 80, 160), (120, 114, 124))
SCALE = 2
"""Plots are drawn larger by this and reduced, because Pillow's lines are not anti-aliased."""
FONTS = (
    *("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf"),
    *("YuGothM.ttc", "meiryo.ttc", "malgun.ttf", "msyh.ttc", "Nirmala.ttc", "Nirmala.ttf", "LeelawUI.ttf"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
)
"""Fonts of Linux, Windows and macOS, as files: Pillow's own has few letters beside those of English."""


@dataclass(frozen=True)
class Cell:
    """Pictures [3, H, W] side by side, and the caption below them."""

    pictures: Sequence[Tensor]
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a contact sheet: its label, a note below it, and its cells."""

    label: str
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a plot: its points (x, y, low, high), with an interval from low to high."""

    label: str
    points: Sequence[tuple[float, float, float, float]]


def fonts(sizes: Sequence[int], texts: Iterable[str]) -> list[ImageFont.FreeTypeFont]:
    """A font in each size that has the texts' characters: Pillow's own, or else the system's that lacks the
    fewest of them, with a warning where it lacks any."""
    shown = sorted({c for c in "".join(texts) if unicodedata.category(c)[0] in "LNPS"})
    file = _font_file("".join(shown))
    return [ImageFont.truetype(file, size) if file else ImageFont.load_default(size) for size in sizes]


def contact_sheet(
    title: str, subtitle: str, rows: Sequence[Row], heads: Sequence[str] = (), side: int = 112
) -> Image.Image:
    """Rows of pictures, `side` pixels each; `heads` stand above the columns of cells."""
    labels = [text for row in rows for text in (row.label, row.note, *(cell.caption for cell in row.cells))]
    big, words, small = fonts((26, 16, 12), (title, subtitle, *heads, *labels))
    gap, between, margin = 6, 18, 20
    count = max(len(row.cells) for row in rows)
    widths = []
    for column in range(count):
        cells = [row.cells[column] for row in rows if column < len(row.cells)]
        pictures = max(1, max(len(cell.pictures) for cell in cells))
        widths.append(pictures * (side + gap) - gap)
    label = max(max(_width(row.label, words), _width(row.note, small)) for row in rows)
    left = margin + (label + 24 if label else 0)
    top = 88 + (28 if heads else 0)
    has_captions = any(cell.caption for row in rows for cell in row.cells)
    height = side + (24 if has_captions else 0) + 14
    across = left + sum(widths) + between * (count - 1) + margin
    across = max(across, 2 * margin + _width(title, big), 2 * margin + _width(subtitle, words))
    sheet = Image.new("RGB", (across, top + height * len(rows) + margin - 14), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, 16), title, INK, big)
    pen.text((margin, 52), subtitle, FAINT, words)
    x = left
    for head, width in zip(heads, widths):
        pen.text((x, top - 26), _fitted(head, words, width + between - 4), INK, words)
        x += width + between
    for number, row in enumerate(rows):
        y, x = top + number * height, left
        pen.text((margin, y), row.label, INK, words)
        pen.text((margin, y + 22), row.note, FAINT, small)
        for cell, width in zip(row.cells, widths):
            for i, picture in enumerate(cell.pictures):
                shown = to_pil(picture).resize((side, side), Image.Resampling.LANCZOS)
                sheet.paste(shown, (x + i * (side + gap), y))
            pen.text((x, y + side + 4), _fitted(cell.caption, small, width + between - 4), FAINT, small)
            x += width + between
    return sheet


def plot(
    title: str,
    subtitle: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Image.Image:
    """Lines with their intervals over an axis of numbers, ticks at the numbers themselves."""
    s, width, height = SCALE, 720, 440
    labels = x_label, y_label, *(line.label for line in lines)
    picture, pen, words, small = _titled(title, subtitle, labels, width, height)
    left, top, right, bottom = 76 * s, 92 * s, (width - 170) * s, (height - 62) * s
    pen.text((20 * s, 68 * s), y_label, FAINT, small)
    xs = sorted({point[0] for line in lines for point in line.points})
    lows = [point[2] for line in lines for point in line.points]
    highs = [point[3] for line in lines for point in line.points]
    low, high = y_range or _rounded_range(min(lows), max(highs))
    places = {x: math.log(x) if log_x else float(x) for x in xs}
    first, last = places[xs[0]], places[xs[-1]]

    def across(x: float) -> float:
        share = (places[x] - first) / (last - first) if last > first else 0.5
        return left + (right - left) * (0.04 + 0.92 * share)

    def down(y: float) -> float:
        return bottom - (bottom - top) * (y - low) / (high - low)

    for tick in range(5):
        value = low + (high - low) * tick / 4
        pen.line((left, down(value), right, down(value)), RULE, s)
        text = f"{value:.3g}"
        pen.text((left - 10 * s - pen.textlength(text, small), down(value) - 7 * s), text, FAINT, small)
    for x in xs:
        text = f"{x:g}"
        pen.text((across(x) - pen.textlength(text, small) / 2, bottom + 8 * s), text, FAINT, small)
    middle = (left + right - pen.textlength(x_label, small)) / 2
    pen.text((middle, bottom + 30 * s), x_label, FAINT, small)
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        # Lines are shifted slightly, so that intervals at the same x do not overlap.
        shift = (number - (len(lines) - 1) / 2) * 5 * s
        points = [(across(x) + shift, down(y)) for x, y, _, _ in line.points]
        for (x, _), (_, _, a, b) in zip(points, line.points):
            pen.line((x, down(a), x, down(b)), tuple((c + 2 * p) // 3 for c, p in zip(colour, PAPER)), 3 * s)
        if len(points) > 1:
            pen.line(points, colour, 2 * s, joint="curve")
        for x, y in points:
            pen.ellipse((x - 4 * s, y - 4 * s, x + 4 * s, y + 4 * s), colour)
        y = top + number * 24 * s
        pen.line((right + 18 * s, y + 8 * s, right + 38 * s, y + 8 * s), colour, 3 * s)
        pen.text((right + 46 * s, y), line.label, INK, small)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def bars(title: str, subtitle: str, rows: Sequence[tuple[str, float, float, float]]) -> Image.Image:
    """A bar for each (label, share, low, high), shares between 0 and 1, with its interval."""
    s, width, height = SCALE, 720, 84 + 34 * len(rows) + 34
    picture, pen, words, small = _titled(title, subtitle, [row[0] for row in rows], width, height)
    room = min(max(_width(row[0], words) for row in rows), width * s // 2)
    left = 44 * s + room
    right, top = (width - 90) * s, 84 * s
    bottom = top + 34 * s * len(rows)
    for tick in range(5):
        x = left + (right - left) * tick / 4
        pen.line((x, top, x, bottom), RULE, s)
        text = f"{25 * tick} %"
        pen.text((x - pen.textlength(text, small) / 2, bottom + 6 * s), text, FAINT, small)
    for number, (label, share, low, high) in enumerate(rows):
        y = top + 34 * s * number
        pen.text((20 * s, y + 8 * s), _fitted(label, words, room), INK, words)
        a, b, c = (left + (right - left) * value for value in (low, share, high))
        pen.rectangle((left, y + 7 * s, b, y + 27 * s), COLOURS[0])
        pen.line((a, y + 17 * s, c, y + 17 * s), INK, 2 * s)
        for x in (a, c):
            pen.line((x, y + 12 * s, x, y + 22 * s), INK, 2 * s)
        pen.text((right + 14 * s, y + 8 * s), f"{100 * share:.0f} %", INK, words)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def save(picture: Image.Image, path: str | os.PathLike) -> None:
    """Writes a PNG file in one move. Raises InputError where the disk does not take it."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    files.write(path, content.getvalue(), "The sheet")


def _titled(title: str, subtitle: str, labels: Sequence[str], width: int, height: int) -> tuple:
    """A picture of SCALE times `width` x `height` with its titles, its pen, and two fonts for its labels."""
    title_font, words, small = fonts([size * SCALE for size in (20, 14, 12)], (title, subtitle, *labels))
    picture = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((20 * SCALE, 14 * SCALE), title, INK, title_font)
    pen.text((20 * SCALE, 42 * SCALE), subtitle, FAINT, words)
    return picture, pen, words, small


@lru_cache(maxsize=64)
def _font_file(characters: str) -> str | None:
    """The file of the font that `fonts` takes for these characters; None is Pillow's own."""
    file, lacking = None, _lacking(ImageFont.load_default(16), characters)
    for name in FONTS if lacking else ():
        try:
            font = ImageFont.truetype(name, 16)
        except OSError:
            continue
        others = _lacking(font, characters)
        if len(others) < len(lacking):
            file, lacking = font.path, others
    if lacking:
        _warn(lacking)
    return file


def _lacking(font: ImageFont.FreeTypeFont, characters: str) -> str:
    """Those of the characters that a font draws as it draws U+FFFF, which no font has."""

    def drawn(c: str) -> tuple:
        mask = font.getmask(c)
        return mask.size, bytes(mask)

    box = drawn("\uffff")
    return "".join(c for c in characters if drawn(c) == box)


@lru_cache(maxsize=64)
def _warn(lacking: str) -> None:
    # Cached, so that many sheets with the same labels say it once.
    log.warning(
        "No font was found that has '%s', which is drawn as boxes: install Noto Sans CJK, DejaVu Sans or "
        "Arial Unicode.",
        lacking,
    )


def _width(text: str, font: ImageFont.FreeTypeFont) -> int:
    return math.ceil(font.getlength(text))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _rounded_range(low: float, high: float) -> tuple[float, float]:
    """The range widened to round numbers."""
    if low == high:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    step = 10 ** math.floor(math.log10(high - low)) / 2
    return math.floor(low / step) * step, math.ceil(high / step) * step


def running_means(values: list[float]) -> list[float]:
    """An exponential moving average (weight 1/20) at each value, a plain mean over the first twenty."""
    mean, means = 0.0, []
    for i, value in enumerate(values):
        mean += (value - mean) * max(0.05, 1 / (i + 1))
        means.append(mean)
    return means


def curve_points(losses: list[float], total: int, begun: int = 0) -> dict:
    """A loss curve for the front end: {"begun", "step", "total", "losses", "means"}, the losses after step
    `begun` and their running mean at up to 240 places, evenly spread."""
    means = running_means(losses)
    count = min(len(losses), 240)
    ends = [len(losses) * (i + 1) // count for i in range(count)]
    thinned = [sum(losses[a:b]) / (b - a) for a, b in zip([0, *ends], ends)]
    return {
        "begun": begun,
        "step": begun + len(losses),
        "total": total,
        "losses": thinned,
        "means": [means[end - 1] for end in ends],
    }


def loss_curve(losses: list[float], total: int, begun: int = 0) -> Image.Image:
    """The losses after step `begun`, with their running mean, on an axis of `total` steps."""
    s, width, height = SCALE, 512, 256
    picture = Image.new("RGB", (width * s, height * s), (24, 24, 28))
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = 16 * s, 28 * s, (width - 16) * s, (height - 16) * s
    pen.rectangle((left, top, right, bottom), outline=(70, 70, 80), width=s)
    step = begun + len(losses)
    title = f"step {step} of {total}"
    if losses:
        means = running_means(losses)
        title += f"   loss {means[-1]:.4f}"
        high, low = max(losses), min(losses)

        def line(values: list[float], colour: tuple[int, int, int], thick: int) -> None:
            points = [
                (
                    left + (right - left) * (begun + i + 0.5) / max(total, step),
                    bottom - (bottom - top) * (0.05 + 0.9 * (v - low) / ((high - low) or 1)),
                )
                for i, v in enumerate(values)
            ]
            pen.line(points if len(points) > 1 else points * 2, colour, thick * s, joint="curve")

        line(losses, (64, 92, 120), 1)
        line(means, (255, 184, 76), 2)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    ImageDraw.Draw(picture).text((16, 9), title, fill=(220, 220, 225))
    return picture
