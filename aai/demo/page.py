"""What the demo shows: a contact sheet and a page with a player beside each sound's pictures."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from .. import audio
from ..charts import FAINT, INK, PAPER, fonts
from ..image import to_pil

WAVE = (90, 96, 190)


@dataclass(frozen=True, eq=False)
class DemoSound:
    """A sound of the demo: its event, its file, its nearest words, and the prompts that it is drawn with."""

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

    sound: DemoSound
    prompt: str
    token: str
    images: Tensor
    seeds: list[str]
    seconds: float

    def file_name(self, i: int) -> str:
        return f"{self.token}-{'photo' if self.prompt.startswith('a photo') else 'scene'}-{i + 1}.png"

    def row(self, i: int) -> dict:
        """What the report says of a picture, beside its file, time and grade."""
        return {
            "sound": f"sounds/{self.sound.file.name}",
            "event": self.sound.event,
            "intensity": self.sound.intensity,
            "lufs": round(self.sound.lufs, 1),
            "token": self.token,
            "prompt": self.prompt,
            "seed": self.seeds[i],
        }


@dataclass(frozen=True)
class Edited:
    """An edit of the demo: its title, its example's name, the source and edited pictures [N, 3, H, W], a
    caption for each, and the seconds that they took together."""

    title: str
    name: str
    event: str
    images: Tensor
    captions: tuple[str, ...]
    seconds: float

    def file_name(self, i: int) -> str:
        return f"{self.name}-{i}.png"

    def row(self, i: int) -> dict:
        """What the report says of a picture, beside its file, time and grade."""
        return {"example": self.name, "event": self.event, "shows": self.captions[i]}


def contact_sheet(drawn: list[Drawn], edits: list[Edited]) -> Image.Image:
    """A row for each sound: its waveform and nearest word, then its pictures prompt by prompt; below, a row
    for each edit."""
    sounds = list(dict.fromkeys(group.sound for group in drawn))
    side, gap, left, top = 128, 8, 250, 84
    columns = max(sum(len(g.images) for g in drawn if g.sound is sound) for sound in sounds)
    count = len(sounds) + len(edits)
    size = left + columns * (side + gap) + 2 * gap, top + count * (side + 26) + gap
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    texts = [text for sound in sounds for text in (sound.event, sound.words[0][0])]
    texts += [text for group in drawn for text in (group.prompt, group.token)]
    texts += [text for edit in edits for text in (edit.title, edit.event, *edit.captions)]
    title, words, small = fonts((26, 16, 12), texts)
    pen.text((16, 14), "A sound becomes a picture", INK, title)
    pen.text((16, 50), "unheard sounds, one token each, SoundWorld's models", FAINT, words)
    for row, sound in enumerate(sounds):
        y = top + row * (side + 26)
        pen.text((16, y), sound.event, INK, words)
        pen.text(
            (16, y + 22),
            f"{sound.lufs:.0f} LUFS   heard: {sound.words[0][0]} {sound.words[0][1]:.0%}",
            FAINT,
            small,
        )
        _draw_waveform(pen, sound.file, (16, y + 44, left - 20, y + side))
        x = left
        for group in (g for g in drawn if g.sound is sound):
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


def _draw_waveform(pen: ImageDraw.ImageDraw, file: Path, box: tuple[int, int, int, int]) -> None:
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
    for sound in dict.fromkeys(group.sound for group in drawn):
        rows = [row for row in report["pictures"] if row["sound"].endswith(f"/{sound.file.name}")]
        words = ", ".join(f"{html.escape(word)} {score:.0%}" for word, score in sound.words)
        figures = "".join(_figure(row, row["prompt"]) for row in rows)
        parts.append(
            f"<section><h2>{html.escape(sound.event)}</h2><p>{sound.lufs:.1f} LUFS. Heard: {words}.</p>"
            f'<audio controls preload="none" src="sounds/{sound.file.name}"></audio>'
            f"<div>{figures}</div></section>"
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


def _figure(row: dict, caption: str) -> str:
    caption = html.escape(caption)
    return (
        f'<figure><img src="{row["file"]}" alt="{caption}" width="128" height="128">'
        f"<figcaption>{caption}<br>seen: {row['grade']['event']}</figcaption></figure>"
    )


def _edits(rows: list[dict]) -> str:
    parts = []
    for example in dict.fromkeys(row["example"] for row in rows):
        figures = "".join(_figure(row, row["shows"]) for row in rows if row["example"] == example)
        parts.append(
            f"<section><h2>{html.escape(example.replace('_', ' '))}</h2><div>{figures}</div></section>"
        )
    return "".join(parts)
