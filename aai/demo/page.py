"""What the demo shows: a contact sheet and a page with a player beside each sound's pictures."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .. import audio
from ..image import to_pil


@dataclass(frozen=True)
class Heard:
    """A sound of the demo: its event, its file, and what the encoder makes of it."""

    event: str
    file: Path
    intensity: float
    lufs: float
    words: list[tuple[str, float]]
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """Pictures [N, 3, H, W] in [0, 1] of one prompt, each with its seed, and the seconds that they took
    together."""

    heard: Heard
    prompt: str
    token: str
    images: Tensor
    seeds: list[str]
    seconds: float


@dataclass(frozen=True)
class Edited:
    """An edit of the demo: what it is, the source and edited pictures [N, 3, H, W], a caption for each, and
    the seconds that they took together."""

    title: str
    name: str
    event: str
    images: Tensor
    captions: tuple[str, ...]
    seconds: float


INK, PAPER, FAINT, WAVE = (34, 32, 40), (250, 248, 244), (120, 114, 124), (90, 96, 190)


def contact_sheet(drawn: list[Drawn], edits: list[Edited]) -> Image.Image:
    """A row for each sound: its waveform and what was heard, then its pictures prompt by prompt; below, a row
    for each edit."""
    sounds = list(dict.fromkeys(group.heard.file for group in drawn))
    side, gap, left, top = 128, 8, 250, 84
    columns = max(sum(len(g.images) for g in drawn if g.heard.file == file) for file in sounds)
    count = len(sounds) + len(edits)
    size = left + columns * (side + gap) + 2 * gap, top + count * (side + 26) + gap
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    title, words, small = (ImageFont.load_default(size) for size in (26, 16, 12))
    pen.text((16, 14), "A sound becomes a picture", INK, title)
    pen.text((16, 50), "unheard sounds, one token each, SoundWorld's models", FAINT, words)
    for row, file in enumerate(sounds):
        groups = [g for g in drawn if g.heard.file == file]
        heard, y = groups[0].heard, top + row * (side + 26)
        pen.text((16, y), heard.event, INK, words)
        pen.text(
            (16, y + 22),
            f"{heard.lufs:.0f} LUFS   heard: {heard.words[0][0]} {heard.words[0][1]:.0%}",
            FAINT,
            small,
        )
        _wave(pen, file, (16, y + 44, left - 20, y + side))
        x = left
        for group in groups:
            shown = group.prompt.replace("*", f"<{group.token}>")
            pen.text((x, y + side + 2), shown, FAINT, small)
            for picture in group.images:
                sheet.paste(to_pil(picture).resize((side, side)), (x, y))
                x += side + gap
            x += gap
    for row, edit in enumerate(edits, len(sounds)):
        y = top + row * (side + 26)
        pen.text((16, y), edit.title, INK, words)
        pen.text((16, y + 22), f"<{edit.event}>, one noise, the source first", FAINT, small)
        for i, (picture, caption) in enumerate(zip(edit.images, edit.captions)):
            x = left + i * (side + gap)
            sheet.paste(to_pil(picture).resize((side, side)), (x, y))
            # A caption that is wider than its picture would run into the next one's.
            shown = caption if i else f"{caption} (source)"
            while pen.textlength(shown, small) > side + gap and i + 1 < len(edit.images):
                shown = shown[:-2].rstrip() + "…"
            pen.text((x, y + side + 2), shown, FAINT, small)
    return sheet


def _wave(pen: ImageDraw.ImageDraw, file: Path, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    waveform = audio.load(file).mono().waveform[0]
    columns = (right - left) // 3
    peaks = waveform[: len(waveform) // columns * columns].view(columns, -1).abs().amax(1)
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    for i, peak in enumerate(peaks.sqrt().tolist()):
        x = left + 3 * i
        pen.rectangle((x, middle - half * peak, x + 1, middle + half * peak + 1), WAVE)


def page(report: dict, drawn: list[Drawn]) -> str:
    """One page: a player beside the pictures of each sound."""
    share = report["event_named_by_the_oracle"]
    parts = []
    for file in dict.fromkeys(group.heard.file for group in drawn):
        rows = [row for row in report["pictures"] if row["sound"].endswith(f"/{file.name}")]
        heard = next(group.heard for group in drawn if group.heard.file == file)
        words = ", ".join(f"{html.escape(word)} {score:.0%}" for word, score in heard.words)
        figures = "".join(
            f'<figure><img src="{row["file"]}" alt="{html.escape(row["prompt"])}" width="128" height="128">'
            f"<figcaption>{html.escape(row['prompt'])}<br>seen: {row['grade']['event']}</figcaption></figure>"
            for row in rows
        )
        parts.append(
            f"<section><h2>{html.escape(heard.event)}</h2><p>{heard.lufs:.1f} LUFS. Heard: {words}.</p>"
            f'<audio controls preload="none" src="sounds/{file.name}"></audio><div>{figures}</div></section>'
        )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A sound becomes a picture</title><style>'
        "body{font:16px system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem;"
        "background:#faf8f4;color:#222}"
        "section{border-top:1px solid #ddd;padding:1rem 0}div{display:flex;flex-wrap:wrap;gap:8px}"
        "figure{margin:0;width:128px}figcaption{font-size:12px;color:#666}"
        "img{border-radius:6px}h2{margin:.2em 0}"
        "</style><h1>A sound becomes a picture</h1>"
        f"<p>{html.escape(report['engine'])}, {report['seconds']:.0f} s. "
        f"The oracle names the sound's event in {share['right']} of {share['pictures']} pictures.</p>"
        + "".join(parts)
        + _edits(report["edits"])
        + "</html>"
    )


def _edits(rows: list[dict]) -> str:
    parts = []
    for example in dict.fromkeys(row["example"] for row in rows):
        figures = "".join(
            f'<figure><img src="{row["file"]}" alt="{html.escape(row["shows"])}" width="128" height="128">'
            f"<figcaption>{html.escape(row['shows'])}<br>seen: {row['grade']['event']}</figcaption></figure>"
            for row in rows
            if row["example"] == example
        )
        parts.append(
            f"<section><h2>{html.escape(example.replace('_', ' '))}</h2><div>{figures}</div></section>"
        )
    return "".join(parts)
