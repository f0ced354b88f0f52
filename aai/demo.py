"""The demo: ten sounds nobody has heard become tokens, the tokens pictures, and a page shows them."""

from __future__ import annotations

import copy
import html
import importlib.metadata
import io
import json
import platform
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from . import audio, comfy_server, soundworld
from .align.encoder import hear, nearest_words
from .errors import InputError
from .image import to_pil
from .soundworld.sounds import synthesize
from .soundworld.world import EVENTS, placed

PACK = Path(__file__).parents[1]
EXAMPLE = PACK / "example_workflows" / "sound_to_picture.json"
SCENES = {
    "rain": "city",
    "thunder": "village",
    "fire": "forest",
    "sea waves": "beach",
    "wind": "desert",
    "fireworks": "beach",
    "dog": "village",
    "rooster": "village",
    "helicopter": "city",
    "clock": "desert",
}
SEED = 1
PER_PROMPT = 4
STEPS = 60
Say = Callable[[str], None]


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


def run(
    output: Path,
    engine: str = "auto",
    serve: bool = False,
    say: Say = print,
    events: Sequence[str] = EVENTS,
    steps: int = STEPS,
) -> dict:
    """Runs the demo into `output`, a sound for each of `events` and `steps` of training for each token;
    returns what report.json holds.

    engine: "comfyui", "diffusers", or "auto": ComfyUI where there is one. Raises InputError where "comfyui"
    is asked for and there is none.
    """
    output.mkdir(parents=True, exist_ok=True)
    comfy = comfy_server.find_comfy() if engine != "diffusers" else None
    if comfy is None and engine == "comfyui":
        raise InputError("There is no ComfyUI: set COMFYUI_PATH to its folder, or take --engine diffusers.")
    if comfy is None and engine == "auto":
        say("No ComfyUI was found (COMFYUI_PATH, ~/comfy/ComfyUI): the same job runs through diffusers.")
    sounds = list(_hear_all(output, events))
    begin = time.monotonic()
    if comfy is None:
        name, drawn, complaints = "diffusers", list(_through_diffusers(output, sounds, steps, say)), []
        _finish(output, name, drawn, complaints, time.monotonic() - begin)
    else:
        name = f"ComfyUI {comfy_server.version(comfy)}"
        with comfy_server.ComfyServer(comfy, output / "comfyui", PACK) as server:
            drawn = list(_through_comfyui(server, sounds, steps, say))
            _finish(output, name, drawn, server.complaints(), time.monotonic() - begin)
            if serve:
                address = f"{server.url}/?template=sound_to_picture&source={comfy_server.PACK_NAME}"
                say(f"ComfyUI is open on the example: {address} (Ctrl+C ends it)")
                webbrowser.open(address)
                server.process.wait()
    return json.loads((output / "report.json").read_text())


def _hear_all(output: Path, events: Sequence[str]) -> Iterator[Heard]:
    """Synthesizes the demo's sounds, of seeds far from the trained ones, and hears them."""
    encoder = soundworld.load_sound_encoder()
    folder = output / "sounds"
    folder.mkdir(exist_ok=True)
    for event in events:
        i, scene = EVENTS.index(event), SCENES[event]
        intensity = (0.9, 0.6, 0.8)[i % 3]
        file = folder / f"{event.replace(' ', '_')}.wav"
        audio.save(synthesize(event, intensity, seed=8_000_000 + i), file)
        embedding = hear(encoder, audio.load(file), file.name)
        (words,) = nearest_words(encoder, embedding.f_a[None], 3)
        prompts = ("a photo of *", placed(scene, event))
        yield Heard(event, file, intensity, embedding.loudness, words, prompts)


def _through_comfyui(
    server: comfy_server.ComfyServer, sounds: list[Heard], steps: int, say: Say
) -> Iterator[Drawn]:
    example = server.prompt(json.loads(EXAMPLE.read_text()))
    for heard in sounds:
        graph = copy.deepcopy(example)
        name = heard.file.stem
        _node(graph, "AAI_LoadAudio")["audio"] = server.upload(heard.file)
        _node(graph, "AAI_TrainSoundToken").update(name=name, steps=steps)
        _node(graph, "EmptyLatentImage")["batch_size"] = PER_PROMPT
        _node(graph, "KSampler")["seed"] = SEED
        for prompt in heard.prompts:
            _node(graph, "AAI_SoundTokenConditioning")["prompt"] = prompt
            result = server.run(graph)
            saved = [image for image in result.images() if image["type"] == "output"]
            images = torch.stack([_from_png(server.image(image)) for image in saved])
            seeds = [f"{SEED}, picture {i + 1} of the batch" for i in range(len(images))]
            say(f"{heard.event}: {prompt} ({result.seconds:.0f} s)")
            yield Drawn(heard, prompt, name, images, seeds, result.seconds)


def _through_diffusers(output: Path, sounds: list[Heard], steps: int, say: Say) -> Iterator[Drawn]:
    from .adapt.train import TrainSettings, train_token
    from .prompt import Prompt

    model, encoder = soundworld.load_picture_model(), soundworld.load_sound_encoder()
    folder = output / "tokens"
    folder.mkdir(exist_ok=True)
    settings = TrainSettings(steps=steps)
    for heard in sounds:
        begin = time.monotonic()
        embedding = hear(encoder, audio.load(heard.file), heard.file.name)
        images, _ = soundworld.references(embedding.f_a, encoder)
        made = train_token(
            model, embedding.f_a, images, settings, heard.file.stem, loudness=embedding.loudness
        ).token
        made.save(folder / f"{heard.file.stem}.safetensors")
        seeds = list(range(SEED, SEED + PER_PROMPT))
        for prompt in heard.prompts:
            cond, uncond = model.encode_prompt(Prompt(prompt, (made,))), model.encode_prompt(Prompt(""))
            pictures = (
                model.decode(model.sample(cond, uncond, seeds=seeds, steps=30, guidance=5.0))
                .clamp(0, 1)
                .cpu()
            )
            seconds, begin = time.monotonic() - begin, time.monotonic()
            say(f"{heard.event}: {prompt} ({seconds:.0f} s)")
            yield Drawn(heard, prompt, made.name, pictures, [str(s) for s in seeds], seconds)


def _node(graph: dict, kind: str) -> dict:
    return next(node["inputs"] for node in graph.values() if node["class_type"] == kind)


def _from_png(data: bytes) -> Tensor:
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _finish(output: Path, engine: str, drawn: list[Drawn], complaints: list[str], seconds: float) -> None:
    """Grades the pictures and writes them, report.json, contact_sheet.png and index.html."""
    oracle = soundworld.load_oracle()
    folder = output / "pictures"
    folder.mkdir(exist_ok=True)
    rows = []
    for group in drawn:
        grades = oracle.grade(group.images)
        for i, picture in enumerate(group.images):
            name = f"{group.token}-{'photo' if group.prompt.startswith('a photo') else 'scene'}-{i + 1}.png"
            to_pil(picture).save(folder / name)
            rows.append(
                {
                    "file": f"pictures/{name}",
                    "sound": f"sounds/{group.heard.file.name}",
                    "event": group.heard.event,
                    "intensity": group.heard.intensity,
                    "lufs": round(group.heard.lufs, 1),
                    "token": group.token,
                    "prompt": group.prompt,
                    "seed": group.seeds[i],
                    "seconds": round(group.seconds / len(group.images), 2),
                    "grade": {
                        "event": grades.events[i],
                        "scene": grades.scenes[i],
                        "intensity": round(grades.intensities[i], 2),
                    },
                }
            )
    right = sum(row["grade"]["event"] == row["event"] for row in rows)
    report = {
        "engine": engine,
        "versions": {
            "python": platform.python_version(),
            **{
                name: importlib.metadata.version(name)
                for name in ("torch", "diffusers", "transformers", "safetensors")
            },
        },
        "command": " ".join(["python", "-m", "aai", *sys.argv[1:]]),
        "seconds": round(seconds, 1),
        "event_named_by_the_oracle": {
            "pictures": len(rows),
            "right": right,
            "share": round(right / len(rows), 3),
        },
        "complaints_in_the_log": complaints,
        "pictures": rows,
    }
    contact_sheet(drawn).save(output / "contact_sheet.png")
    (output / "index.html").write_text(_page(report, drawn), encoding="utf-8")
    (output / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


INK, PAPER, FAINT, WAVE = (34, 32, 40), (250, 248, 244), (120, 114, 124), (90, 96, 190)


def contact_sheet(drawn: list[Drawn]) -> Image.Image:
    """A row for each sound: its waveform and what was heard, then its pictures prompt by prompt."""
    sounds = list(dict.fromkeys(group.heard.file for group in drawn))
    side, gap, left, top = 128, 8, 250, 84
    columns = max(sum(len(g.images) for g in drawn if g.heard.file == file) for file in sounds)
    sheet = Image.new(
        "RGB", (left + columns * (side + gap) + 2 * gap, top + len(sounds) * (side + 26) + gap), PAPER
    )
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


def _page(report: dict, drawn: list[Drawn]) -> str:
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
        + "</html>"
    )
