"""The demo: ten sounds that no model was trained on become tokens, the tokens pictures and edits, and a
page shows them."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import platform
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import audio, image
from ..encoders.base import encode_sound, nearest_words
from ..errors import InputError
from ..soundworld import library, loaders
from ..soundworld.oracle import Oracle
from ..soundworld.sounds import synthesize
from ..soundworld.world import EVENTS, placed
from . import comfy_server
from .page import DemoSound, Drawn, Edited, contact_sheet, page

PACK = Path(__file__).parents[2]
EXAMPLES = PACK / "example_workflows"
EDITS = {
    "sound_edit": "A sound changes a picture",
    "loudness_sweep": "Louder, step by step",
    "stylize": "A sound as a style",
    "photograph": "A picture of one's own",
}
"""The example workflows of edits, and what each shows."""
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
GUIDANCE = 4.0
Say = Callable[[str], None]


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
    sounds = list(_encoded_sounds(output, events))
    say(f"{len(sounds)} sounds become words, each trained, and pictures: half a minute a sound on a CPU.")
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
    return json.loads((output / "report.json").read_text(encoding="utf-8"))


def _encoded_sounds(output: Path, events: Sequence[str]) -> Iterator[DemoSound]:
    """Synthesizes the demo's sounds, of seeds far from the trained ones, and encodes them."""
    encoder = loaders.load_sound_encoder()
    folder = output / "sounds"
    folder.mkdir(exist_ok=True)
    for event in events:
        i, scene = EVENTS.index(event), SCENES[event]
        intensity = (0.9, 0.6, 0.8)[i % 3]
        file = folder / f"{event.replace(' ', '_')}.wav"
        audio.save(synthesize(event, intensity, seed=8_000_000 + i), file)
        embedding = encode_sound(encoder, audio.load(file), file.name)
        (near,) = nearest_words(encoder, embedding.f_a[None], 3)
        prompts = ("a photo of *", placed(scene, event))
        yield DemoSound(event, file, intensity, embedding.loudness, near.words, prompts)


def _through_comfyui(
    server: comfy_server.ComfyServer, sounds: list[DemoSound], steps: int, say: Say
) -> Iterator[Drawn | Edited]:
    template = server.prompt(example("sound_to_picture"), awake=True)
    for sound in sounds:
        graph = copy.deepcopy(template)
        name = sound.file.stem
        _node(graph, "AAI_LoadAudio")["audio"] = server.upload(sound.file)
        _node(graph, "AAI_TrainSoundToken").update(name=name, steps=steps)
        _node(graph, "EmptyLatentImage")["batch_size"] = PER_PROMPT
        _node(graph, "KSampler")["seed"] = SEED
        for prompt in sound.prompts:
            _node(graph, "AAI_SoundTokenConditioning")["prompt"] = prompt
            result = server.run(graph)
            images = torch.stack([image.load(file) for file in server.pictures(result)])
            seeds = [f"{SEED}, picture {i + 1} of the batch" for i in range(len(images))]
            say(f"{sound.event}: {prompt} ({result.seconds:.0f} s)")
            yield Drawn(sound, prompt, name, images, seeds, result.seconds)
    for name, sound in _edits_of(sounds):
        graph = server.prompt(example(name), awake=True)
        _node(graph, "AAI_LoadAudio")["audio"] = server.upload(sound.file)
        _node(graph, "AAI_TrainSoundToken").update(name=sound.file.stem, steps=steps)
        _node(graph, "KSampler")["seed"] = SEED
        if name == "photograph":
            _node(graph, "LoadImage")["image"] = server.upload(_photograph(sound.file.parent))
        result = server.run(graph)
        images = torch.stack([image.load(file) for file in server.pictures(result)])
        say(f"{name}: {sound.event} ({result.seconds:.0f} s)")
        yield _edited(name, sound, images, result.seconds)


def _through_diffusers(
    output: Path, sounds: list[DemoSound], steps: int, say: Say
) -> Iterator[Drawn | Edited]:
    from ..adapt.train import TrainSettings, train_token
    from ..inject.edit import STYLE_WINDOWS, Edit, blended, encode, sweep
    from ..inject.invert import invert
    from ..inject.loudness import read_scales
    from ..prompt import Prompt

    model, encoder = loaders.load_picture_model(), loaders.load_sound_encoder()
    folder = output / "tokens"
    folder.mkdir(exist_ok=True)
    settings = TrainSettings(steps=steps)
    tokens = {}
    for sound in sounds:
        begin = time.monotonic()
        embedding = encode_sound(encoder, audio.load(sound.file), sound.file.name)
        images, _ = library.references(embedding.f_a, encoder)
        token = train_token(
            model, embedding.f_a, images, settings, sound.file.stem, loudness=embedding.loudness
        ).token
        tokens[sound.event] = token
        token.save(folder / f"{sound.file.stem}.safetensors")
        seeds = list(range(SEED, SEED + PER_PROMPT))
        for prompt in sound.prompts:
            cond, uncond = model.encode_prompt(Prompt(prompt, (token,))), model.encode_prompt(Prompt(""))
            pictures = (
                model.decode(model.sample(cond, uncond, seeds=seeds, steps=30, guidance=GUIDANCE))
                .clamp(0, 1)
                .cpu()
            )
            seconds, begin = time.monotonic() - begin, time.monotonic()
            say(f"{sound.event}: {prompt} ({seconds:.0f} s)")
            yield Drawn(sound, prompt, token.name, pictures, [str(s) for s in seeds], seconds)
    for name, sound in _edits_of(sounds):
        begin = time.monotonic()
        widgets = _edit_widgets(name)
        source, edited = (
            Prompt(widgets[key], (tokens[sound.event],)) for key in ("source_prompt", "edited_prompt")
        )
        prompts, scales = sweep([edited], read_scales(widgets["scale"]))
        trajectory = None
        if name == "photograph":
            latents = model.encode_images(image.load(_photograph(output / "sounds"))[None])
            trajectory = invert(model, latents, model.encode_prompt(source))
        windows = STYLE_WINDOWS if widgets["windows"] == "change the style" else {}
        edit = Edit(
            source,
            prompts,
            scales=scales,
            trajectory=trajectory,
            self_downscale=widgets["self_downscale"],
            **windows,
        )
        edit = blended(
            edit,
            model.encode_prompt,
            widgets["blend_words"],
            start=widgets["blend_start"],
            threshold=widgets["blend_threshold"],
            changes=widgets["blend_changes"],
        )
        cond, uncond = encode(model.encode_prompt, edit), model.encode_prompt(Prompt(""))
        latents = model.sample(cond, uncond, seeds=[SEED], steps=30, guidance=GUIDANCE, edit=edit)
        seconds = time.monotonic() - begin
        say(f"{name}: {sound.event} ({seconds:.0f} s)")
        yield _edited(name, sound, model.decode(latents).clamp(0, 1).cpu(), seconds)


def example(name: str) -> dict:
    """An example workflow, as it is saved."""
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def _edit_widgets(name: str) -> dict:
    """The values of an example's Prompt To Prompt Edit, by widget."""
    node = next(n for n in example(name)["nodes"] if n["type"] == "AAI_PromptToPromptEdit")
    names = [i["name"] for i in node["inputs"] if "widget" in i]
    return dict(zip(names, node["widgets_values"]))


def _edits_of(sounds: list[DemoSound]) -> Iterator[tuple[str, DemoSound]]:
    """The examples whose sound is among the demo's."""
    for name in EDITS:
        node = next(n for n in example(name)["nodes"] if n["type"] == "AAI_LoadAudio")
        for sound in sounds:
            if sound.file.name == node["widgets_values"][0]:
                yield name, sound


def _photograph(folder: Path) -> Path:
    """A beach that no model has drawn, as a file."""
    from ..soundworld.pictures import render

    path = folder.parent / "beach.png"
    Image.fromarray(render("beach", None, 0.5, seed=8_000_000)).save(path)
    return path


def _edited(name: str, sound: DemoSound, images: Tensor, seconds: float) -> Edited:
    widgets = _edit_widgets(name)
    scales = [part.strip() for part in widgets["scale"].split(",")]
    word = widgets["edited_prompt"].replace("*", f"<{sound.file.stem}>")
    captions = [widgets["source_prompt"], *(word if len(scales) == 1 else f"scale {s}" for s in scales)]
    return Edited(EDITS[name], name, sound.event, images, tuple(captions), seconds)


def _node(graph: dict, kind: str) -> dict:
    return next(node["inputs"] for node in graph.values() if node["class_type"] == kind)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # ComfyUI needs no diffusers.
        return "not installed"


def _graded(group: Drawn | Edited, oracle: Oracle, folder: Path) -> Iterator[dict]:
    """Saves a group's pictures; yields each one's row of the report."""
    grades = oracle.grade(group.images)
    for i, picture in enumerate(group.images):
        name = group.file_name(i)
        image.to_pil(picture).save(folder / name)
        yield {
            "file": f"pictures/{name}",
            **group.row(i),
            "seconds": round(group.seconds / len(group.images), 2),
            "grade": {
                "event": grades.events[i],
                "scene": grades.scenes[i],
                "intensity": round(grades.intensities[i], 2),
            },
        }


def _finish(
    output: Path, engine: str, groups: list[Drawn | Edited], complaints: list[str], seconds: float
) -> None:
    """Grades the pictures and writes them, report.json, contact_sheet.png and index.html."""
    oracle = loaders.load_oracle()
    folder = output / "pictures"
    folder.mkdir(exist_ok=True)
    drawn = [group for group in groups if isinstance(group, Drawn)]
    edits = [group for group in groups if isinstance(group, Edited)]
    edit_rows = [row for group in edits for row in _graded(group, oracle, folder)]
    rows = [row for group in drawn for row in _graded(group, oracle, folder)]
    right = sum(row["grade"]["event"] == row["event"] for row in rows)
    report = {
        "engine": engine,
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "diffusers", "transformers", "safetensors")},
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
        "edits": edit_rows,
    }
    contact_sheet(drawn, edits).save(output / "contact_sheet.png")
    (output / "index.html").write_text(page(report, drawn), encoding="utf-8")
    (output / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
