"""Draws the pictures of the templates, the pages of help and the banner again, with the models as they are.

    python docs/draw.py           # all of them: four minutes on a CPU
    python docs/draw.py sound_edit   # some, by the file's name

Needs a ComfyUI (COMFYUI_PATH) and, for pictures of nodes, Chromium with the extra `browser`.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import av
import torch
from PIL import Image, ImageDraw, ImageFont

from aai import audio, image
from aai.demo.comfy_server import ComfyServer, Result, find_comfy
from aai.demo.run import EXAMPLES, example
from aai.soundworld.sounds import synthesize
from aai.soundworld.world import EVENTS, placed

ROOT = Path(__file__).parents[1]
HELP = ROOT / "web" / "docs" / "assets"
GROUND, AMBER, BLUE, LABEL, WORDS = (
    (23, 22, 29),
    (255, 181, 71),
    (90, 190, 245),
    (10, 10, 12),
    (240, 238, 244),
)
GAP, MARGIN, RADIUS = 10, 18, 12
SEED = 1

CAPTIONS = {
    "sound_edit": ("a forest", "a forest with *"),
    "sound_edit_flow": ("a forest", "a forest with *"),
    "stylize": ("a village", "in the style of *"),
    "photograph": ("the photograph", "a beach with *"),
    "loudness_sweep": ("source", "0", "0.5", "1", "1.5", "2"),
    "word_weight": ("0", "0.4", "0.8", "1.2", "1.6", "2"),
    "share_token": ("embedding:sounds/my_fireworks",),
    "sound_to_picture": (),
    "two_sounds": (),
}
TOKENS = {"rain": "city", "fire": "forest", "fireworks": "beach", "dog": "village", "helicopter": "city"}
NODES = {
    "load_audio": ("sound_to_picture", "AAI_LoadAudio"),
    "words": ("sound_to_picture", "AAI_EncodeSound"),
    "references": ("sound_to_picture", "AAI_RetrieveReferenceImages"),
    "train": ("sound_to_picture", "AAI_TrainSoundToken"),
    "compare": ("sound_edit", "AAI_CompareImages"),
}
BANNER = [(1000, 64, 1300, 249), (1318, 64, 1618, 249), (1000, 267, 1300, 452), (1318, 267, 1618, 452),
          (1000, 470, 1300, 655), (1318, 470, 1618, 655)]  # fmt: skip
"""Where the banner has its pictures, in pixels."""


def main() -> None:
    wanted = set(sys.argv[1:])
    comfy = find_comfy()
    if comfy is None:
        sys.exit("There is no ComfyUI: set COMFYUI_PATH to its folder.")

    def asked(*names: str) -> bool:
        return not wanted or bool(wanted & set(names))

    with tempfile.TemporaryDirectory() as base, ComfyServer(comfy, Path(base), ROOT) as server:
        for name, captions in CAPTIONS.items():
            if asked(name):
                pictures = saved(server, server.run(server.prompt(example(name))))
                save(card(pictures, captions, sounds_of(name)), EXAMPLES / f"{name}.jpg")
                if name in ("sound_edit", "photograph", "loudness_sweep"):
                    shown = list(zip(pictures, captions))[name == "loudness_sweep" :]
                    file = {"loudness_sweep": "loudness", "sound_edit": "edit"}.get(name, name)
                    save(strip(shown, 150 if file == "loudness" else 238), HELP / f"{file}.jpg")
        if asked("align_encoder", "align"):
            result = server.run(server.prompt(example("align_encoder")))
            curve = saved(server, result, "temp")[0]
            save(curve, HELP / "align.jpg")
            save(card([curve], (), sounds_of("align_encoder")), EXAMPLES / "align_encoder.jpg")
        if asked("sound_film", "film"):
            draw_film(server)
        if asked("sound_film_wan"):
            draw_clip()
        if asked("flow_edit"):
            draw_flow_edit()
        if asked("soundworld", "tokens", "heatmap", "banner"):
            draw_tokens(server)
        if asked(*NODES):
            photograph_nodes(server, asked)


def draw_film(server: ComfyServer) -> None:
    """Six moments of the film that the template makes."""
    (film,) = server.pictures(server.run(server.prompt(example("sound_film"))))
    with av.open(film) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    rate = next(n for n in example("sound_film")["nodes"] if n["type"] == "AAI_SoundTimeline")[
        "widgets_values"
    ][0]
    chosen = [round((number + 0.5) * len(frames) / 6) for number in range(6)]
    shown = [(frames[i], f"{i / rate:.1f} s") for i in chosen]
    captions = [caption for _, caption in shown]
    save(card([frame for frame, _ in shown], captions, sounds_of("sound_film")), EXAMPLES / "sound_film.jpg")
    save(strip(shown, 120), HELP / "film.jpg")


def draw_clip() -> None:
    """What each latent frame of the clip that the template makes reads: its word, and how much of it."""
    from aai.inject.latent_film import latent_plan
    from aai.inject.timeline import timeline
    from aai.inject.windows import embed_windows
    from aai.soundworld.loaders import load_sound_encoder

    saved_nodes = {node["type"]: node["widgets_values"] for node in example("sound_film_wan")["nodes"]}
    name, start, seconds = saved_nodes["AAI_LoadAudio"]
    sound = audio.load(EXAMPLES / "input" / name).cut(start, seconds)
    line = timeline(embed_windows([sound], load_sound_encoder()), saved_nodes["AAI_SoundTimeline"][0])
    pictures = 4
    count = 1 + (saved_nodes["EmptyHunyuanLatentVideo"][2] - 1) // pictures
    plan = latent_plan(line, count, pictures)
    side, tall, big = 1208, 520, ImageFont.load_default(30)
    drawn = Image.new("RGB", (side, tall), (34, 33, 42))
    pen, wide, before, colours = ImageDraw.Draw(drawn), side / count, "", {}
    for number, shown in enumerate(plan.frames):
        shot = plan.shots[shown] if shown >= 0 else None
        picture = max(0, 1 + (number - 1) * pictures)
        word = line.words[min(picture, len(line) - 1)] if shot else ""
        colour = colours.setdefault(shot.stretch if shot else -1, (AMBER, BLUE)[len(colours) % 2])
        left, right = number * wide + 3, (number + 1) * wide - 3
        height = (tall - 130) * (shot.scale if shot else 0) / 2
        pen.rectangle((left, tall - 20 - max(height, 4), right, tall - 20), colour if shot else LABEL)
        if word and word != before:
            pen.text((left, 24), word, WORDS, big)
        before = word
    save(card([drawn], (f"{count} latent frames, {len(line)} pictures",), [sound]),
         EXAMPLES / "sound_film_wan.jpg")  # fmt: skip


def draw_flow_edit() -> None:
    """A photograph that SoundWorld's flow transformer edits by three sounds."""
    from aai.inject.flow_edit import edit_picture
    from aai.prompt import Prompt
    from aai.soundworld.loaders import load_adapter, load_picture_model, load_sound_encoder
    from aai.soundworld.pictures import render

    model, encoder = load_picture_model(model="flow"), load_sound_encoder()
    adapter = load_adapter(model)
    photograph = torch.from_numpy(render("beach", None, 0.5, seed=8_100_001)).permute(2, 0, 1).float() / 255
    prompts, captions = [], ["the photograph"]
    for event in ("fireworks", "helicopter", "fire"):
        sound = synthesize(event, 0.9, seed=8_000_000 + EVENTS.index(event))
        token = adapter.token(encoder.embed([sound])[0], event)
        prompts.append(Prompt(placed("beach", event), (token,)))
        captions.append(prompts[-1].text.removeprefix("a beach "))
    made = edit_picture(
        model, model.encode_images(photograph[None]), model.encode_prompt(Prompt("a beach")),
        [model.encode_prompt(p) for p in prompts], model.encode_prompt(Prompt("")),
        guidance=5.5, seed=2,
    )  # fmt: skip
    shown = [image.to_pil(picture) for picture in (photograph, *model.decode(made))]
    save(strip(list(zip(shown, captions)), 166), HELP / "flow_edit.jpg")


def draw_tokens(server: ComfyServer) -> None:
    """What words and sounds draw alone, and where the sounds looked."""
    words = [e for e in EVENTS if e not in ("wind", "clock")]
    photos = [drawn(server, f"a photo of {e}", None)[0] for e in words]
    save(strip(list(zip(photos, words)), 150, across=4), HELP / "soundworld.jpg")
    scenes = {event: drawn(server, placed(scene, event), event) for event, scene in TOKENS.items()}
    told = {event: placed(scene, event) for event, scene in TOKENS.items()}
    shown = [(scenes[e][0], told[e]) for e in ("rain", "fire", "fireworks", "dog")]
    save(strip(shown, 166), HELP / "tokens.jpg")
    looked = [(p, text) for e in ("dog", "fire", "helicopter")
              for p, text in zip(scenes[e], (told[e], "where * looked"))]  # fmt: skip
    save(strip(looked, 144), HELP / "heatmap.jpg")
    banner = read(ROOT / "docs" / "banner.jpg")
    six = [scenes["fire"][0], scenes["dog"][0], scenes["fireworks"][0], scenes["rain"][0],
           drawn(server, "a village", None)[0], photos[words.index("sea waves")]]  # fmt: skip
    for picture, (left, top, right, bottom) in zip(six, BANNER):
        size = (right - left, bottom - top)
        wide = picture.resize((size[0], size[0]), Image.Resampling.BICUBIC)
        cut = wide.crop((0, (size[0] - size[1]) // 2, size[0], (size[0] + size[1]) // 2))
        banner.paste(cut, (left, top), rounded(size, 16))
    save(banner, ROOT / "docs" / "banner.jpg")


def drawn(server: ComfyServer, prompt: str, event: str | None) -> list[Image.Image]:
    """A picture of a prompt; with an event, its sound's token is `*`, and where that looked comes too."""
    graph = server.prompt(example("sound_to_picture"), awake=True)
    ids = {node["class_type"]: number for number, node in graph.items()}
    inputs = {kind: graph[number]["inputs"] for kind, number in ids.items()}
    inputs["EmptyLatentImage"]["batch_size"], inputs["KSampler"]["seed"] = 1, SEED
    if event is None:
        clip = inputs["AAI_SoundTokenConditioning"]["clip"]
        graph["words"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": prompt}}
        inputs["KSampler"]["positive"] = ["words", 0]
        kept = (
            "AAI_LoadSoundWorld",
            "CLIPTextEncode",
            "EmptyLatentImage",
            "KSampler",
            "VAEDecode",
            "SaveImage",
        )
        graph = {number: node for number, node in graph.items() if node["class_type"] in kept}
        return saved(server, server.run(graph))
    sound = server.input / f"docs_{event}.wav"
    audio.save(synthesize(event, 0.9, seed=8_000_000 + EVENTS.index(event)), sound)
    inputs["AAI_LoadAudio"]["audio"] = sound.name
    inputs["AAI_SoundTokenConditioning"]["prompt"] = prompt
    positive = [ids["AAI_SoundTokenConditioning"], 0]
    watched = {"model": inputs["KSampler"]["model"], "conditioning": positive}
    graph["watch"] = {"class_type": "AAI_AttentionHeatmap", "inputs": watched}
    inputs["KSampler"]["model"] = ["watch", 0]
    shown = {"maps": ["watch", 1], "images": [ids["VAEDecode"], 0], "opacity": 0.75}
    graph["show"] = {"class_type": "AAI_DrawHeatmap", "inputs": shown}
    graph["save"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["show", 0], "filename_prefix": "z_heat"},
    }
    return saved(server, server.run(graph))


def photograph_nodes(server: ComfyServer, asked: Callable[..., bool]) -> None:
    """Nodes as the front end shows them after a run."""
    from playwright.sync_api import sync_playwright

    settings = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.Persist": False, "Comfy.Locale": "en",
                "Comfy.VueNodes.Enabled": False, "Comfy.Minimap.Visible": False}  # fmt: skip
    server.post("/settings", settings)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        for name in sorted({template for template, _ in NODES.values()}):
            kinds = {file: kind for file, (own, kind) in NODES.items() if own == name and asked(file)}
            if not kinds:
                continue
            page.goto(server.url)
            page.wait_for_function("window.app?.graph && !!LiteGraph.registered_node_types['AAI_LoadAudio']")
            page.wait_for_timeout(1500)
            page.evaluate("async (w) => { await app.loadGraphData(w); }", example(name))
            page.evaluate("() => { for (const n of app.graph._nodes) if (n.mode === 4) n.mode = 0; }")
            before = len(server.get("/history"))
            page.locator('[data-testid="queue-button"]').first.click()
            while len(server.get("/history")) == before:
                page.wait_for_timeout(300)
            page.wait_for_timeout(1500)
            for file, kind in kinds.items():
                box = page.evaluate(FRAMED, kind)
                page.wait_for_timeout(600)
                save(read(io.BytesIO(page.screenshot(clip=box))), HELP / f"{file}.jpg")
        browser.close()


FRAMED = """(kind) => {
    const node = app.graph._nodes.find((n) => n.type === kind);
    const [width, height] = [node.size[0], node.size[1] + 30];
    const scale = Math.min(1.4, 800 / height);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [300 / scale - node.pos[0], 120 / scale - (node.pos[1] - 30)];
    app.canvas.setDirty(true, true);
    return { x: 298, y: 118, width: width * scale + 4, height: height * scale + 4 };
}"""
"""Brings a node to a place of the page, and says which part of the page it takes."""


def sounds_of(name: str) -> list[audio.Sound]:
    files = [n["widgets_values"][0] for n in example(name)["nodes"] if n["type"] == "AAI_LoadAudio"]
    return [audio.load(EXAMPLES / "input" / file) for file in files]


def saved(server: ComfyServer, result: Result, kind: str = "output") -> list[Image.Image]:
    return [read(file) for file in server.pictures(result, kind)]


def read(file: Path | BinaryIO) -> Image.Image:
    with image.opened(file) as picture:
        return picture.convert("RGB")


def card(
    pictures: Sequence[Image.Image], captions: Sequence[str], sounds: Sequence[audio.Sound]
) -> Image.Image:
    """A template's picture, 640 wide: its sounds, and below them what it makes."""
    across = 3 if len(pictures) == 6 else min(2, len(pictures))
    down = -(-len(pictures) // across)
    wide = (
        604
        if len(pictures) == 1
        else 240
        if down == 2 and across == 2
        else (604 - GAP * (across - 1)) // across
    )
    tall = round(wide * pictures[0].height / pictures[0].width)
    top = 128
    sheet = Image.new("RGB", (640, top + down * tall + (down - 1) * GAP + MARGIN + 6), GROUND)
    width = (604 - 14 * (len(sounds) - 1)) // len(sounds)
    for number, sound in enumerate(sounds):
        bars(sheet, sound, MARGIN + number * (width + 14), width, (AMBER, BLUE)[number])
    left = (640 - across * wide - (across - 1) * GAP) // 2
    for number, picture in enumerate(pictures):
        place = left + number % across * (wide + GAP), top + number // across * (tall + GAP)
        caption = captions[number] if number < len(captions) else ""
        put(sheet, picture.resize((wide, tall), Image.Resampling.BICUBIC), place, caption, 15)
    return sheet


def strip(pictures: Sequence[tuple[Image.Image, str]], side: int, across: int = 0) -> Image.Image:
    """Pictures with captions side by side, or in rows of `across`."""
    across = across or len(pictures)
    down = -(-len(pictures) // across)
    sheet = Image.new("RGB", tuple(2 * MARGIN - 4 + n * (side + GAP) - GAP for n in (across, down)), GROUND)
    for number, (picture, caption) in enumerate(pictures):
        place = tuple(MARGIN - 2 + n * (side + GAP) for n in (number % across, number // across))
        put(sheet, picture.resize((side, side), Image.Resampling.BICUBIC), place, caption, 13)
    return sheet


def put(sheet: Image.Image, picture: Image.Image, place: tuple[int, int], caption: str, size: int) -> None:
    """A picture with round corners, its caption on it."""
    sheet.paste(picture, place, rounded(picture.size, RADIUS))
    if not caption:
        return
    font = ImageFont.load_default(size)
    if font.getlength(caption) > picture.width - 32:
        size = int(size * (picture.width - 32) / font.getlength(caption))
        font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(sheet)
    x, y = place[0] + 8, place[1] + picture.height - size - 18
    pen.rounded_rectangle((x, y, x + font.getlength(caption) + 16, y + size + 10), 6, LABEL)
    pen.text((x + 8, y + 3), caption, WORDS, font)


def bars(sheet: Image.Image, sound: audio.Sound, left: int, width: int, colour: tuple[int, int, int]) -> None:
    """A sound's outline in bars, in a band at the top."""
    count = width // 10
    parts = sound.mono().waveform[0].abs().tensor_split(count)
    peaks = torch.stack([part.max() for part in parts])
    pen, middle = ImageDraw.Draw(sheet), 62
    for number, peak in enumerate((peaks / peaks.max().clamp(min=1e-6)).tolist()):
        x, half = left + number * width / count, max(2.0, 42 * peak**0.7)
        pen.rounded_rectangle((x, middle - half, x + 5, middle + half), 2, colour)


def rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask with round corners, drawn large and reduced, as Pillow's edges are not smooth."""
    mask = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * size[0] - 1, 4 * size[1] - 1), 4 * radius, 255)
    return mask.resize(size, Image.Resampling.LANCZOS)


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=84)
    print(path.relative_to(ROOT), flush=True)


if __name__ == "__main__":
    main()
