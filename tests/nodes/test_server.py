"""A real ComfyUI server with the pack among its custom nodes: the example, refusals, Cancel."""

from __future__ import annotations

import copy
import io
import json
import time
from pathlib import Path

import pytest
from PIL import Image

from aai import audio
from aai.comfy_server import ComfyError, ComfyServer
from aai.soundworld.pictures import render
from aai.soundworld.sounds import synthesize

ROOT = Path(__file__).parents[2]
WORKFLOWS = {p.stem: json.loads(p.read_text()) for p in (ROOT / "example_workflows").glob("*.json")}
WORKFLOW = WORKFLOWS["sound_to_picture"]


@pytest.fixture(scope="module")
def server(comfy_path, tmp_path_factory):
    with ComfyServer(comfy_path, tmp_path_factory.mktemp("server"), ROOT) as server:
        for event in ("thunder", "fire", "fireworks"):
            audio.save(synthesize(event, 0.8, seed=11), server.input / f"{event}.wav")
        Image.fromarray(render("beach", None, 0.5, seed=11)).save(server.input / "beach.png")
        yield server


@pytest.fixture(scope="module")
def prompt(server):
    """The example as an API prompt, with few steps."""
    prompt = server.prompt(WORKFLOW)
    node(prompt, "AAI_TrainSoundToken")["inputs"]["steps"] = 6
    node(prompt, "KSampler")["inputs"]["steps"] = 6
    return prompt


def node(prompt: dict, kind: str) -> dict:
    return next(n for n in prompt.values() if n["class_type"] == kind)


def changed(graph: dict, kind: str, **inputs) -> dict:
    graph = copy.deepcopy(graph)
    node(graph, kind)["inputs"].update(inputs)
    return graph


@pytest.fixture(scope="module")
def result(server, prompt):
    return server.run(prompt, timeout=300)


def test_the_example_gives_pictures(server, result):
    saved = [image for image in result.images() if image["type"] == "output"]
    assert len(saved) == 4
    for image in saved:
        picture = Image.open(io.BytesIO(server.image(image)))
        assert picture.size == (128, 128)
        assert len(picture.convert("L").getcolors(256)) > 20


def test_the_example_says_what_it_hears_and_saves_the_token(server, result):
    texts = " ".join(result.texts())
    assert "thunder" in texts and "embedding:thunder" in texts
    assert (server.base / "models" / "embeddings" / "thunder.safetensors").is_file()


def test_nothing_in_the_log_complains_of_the_pack(server, result):
    assert server.complaints() == []
    assert "does not exist, ignoring" not in server.log


def test_the_pack_imports_fast(server):
    assert server.import_seconds() <= 0.3


def test_the_web_folder_is_served(server):
    assert any(
        path.endswith("load_audio.js") for path in server.get("/extensions") if "aai-sound-tokens" in path
    )


@pytest.mark.parametrize(
    ("name", "count"), [("edit", 2), ("stylize", 2), ("loudness_sweep", 6), ("photograph", 2)]
)
def test_the_edit_examples_give_the_source_and_its_edits(server, name, count):
    graph = server.prompt(WORKFLOWS[name])
    node(graph, "AAI_TrainSoundToken")["inputs"]["steps"] = 6
    node(graph, "AAI_SaveSoundToken")["inputs"]["overwrite"] = True
    node(graph, "KSampler")["inputs"]["steps"] = 6
    saved = [i for i in server.run(graph, timeout=300).images() if i["type"] == "output"]
    pixels = [Image.open(io.BytesIO(server.image(i))).convert("RGB").tobytes() for i in saved]
    assert len(pixels) == count
    # Scale 0 is the source picture; every other is another.
    assert len(set(pixels)) == count - (name == "loudness_sweep")


def test_the_align_example_teaches_and_saves_an_encoder(server):
    graph = server.prompt(WORKFLOWS["align_encoder"])
    node(graph, "AAI_AlignAudioEncoder")["inputs"]["steps"] = 2
    texts = " ".join(server.run(graph, timeout=300).texts())
    assert "2 steps on 100 clips of 20 labels; held-out clips named right" in texts
    assert "soundworld_strengths.safetensors" in texts and "thunder" in texts
    assert (server.base / "models" / "audio_encoders" / "soundworld_strengths.safetensors").is_file()


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_every_slot_of_the_examples_is_the_nodes_own(server, name):
    info = server.object_info()
    for saved in WORKFLOWS[name]["nodes"]:
        if saved["type"] == "MarkdownNote":
            continue
        spec = info[saved["type"]]
        # A newer core node may have one output more.
        count = len(saved["outputs"])
        assert [o["name"] for o in saved["outputs"]] == spec["output_name"][:count], saved["type"]
        assert [o["type"] for o in saved["outputs"]] == spec["output"][:count], saved["type"]
        assert count == len(spec["output"]) or not saved["type"].startswith("AAI_"), saved["type"]
        names = {**spec["input"].get("required", {}), **spec["input"].get("optional", {})}
        assert {i["name"] for i in saved["inputs"]} == set(names), saved["type"]


@pytest.mark.parametrize(
    ("kind", "inputs", "words"),
    [
        ("AAI_LoadAudio", {"audio": "nowhere.wav"}, ["nowhere.wav", "upload"]),
        ("AAI_LoadAudio", {"start": 500.0}, ["500", "start earlier"]),
        ("AAI_SoundTokenConditioning", {"prompt": "a photo of <dog>"}, ["dog"]),
        ("AAI_RetrieveReferenceImages", {"library": "nothing"}, ["nothing"]),
        ("AAI_SaveSoundToken", {"name": "../outside"}, ["../outside", "models/embeddings"]),
    ],
)
def test_a_mistake_is_told_in_one_sentence(server, prompt, result, kind, inputs, words):
    with pytest.raises(ComfyError) as caught:
        server.run(changed(prompt, kind, **inputs), timeout=120)
    assert caught.value.node == kind
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "\n" not in caught.value.message and len(caught.value.message) < 300


def test_cancel_stops_within_a_step_and_keeps_the_token(server, prompt, result):
    queued = server.queue(changed(prompt, "AAI_TrainSoundToken", steps=10000, name="cancelled"))
    while not server.get("/queue")["queue_running"]:
        time.sleep(0.1)
    # What comes before the training is cached: after these seconds some steps are done.
    time.sleep(4)
    begin = time.monotonic()
    server.interrupt()
    with pytest.raises(ComfyError, match="interrupted") as caught:
        server.wait(queued, timeout=60)
    assert time.monotonic() - begin < 15
    assert caught.value.node == "AAI_TrainSoundToken"
    kept = [
        path.name for path in (server.base / "models" / "embeddings").iterdir() if "cancelled" in path.name
    ]
    assert len(kept) == 1 and kept[0].startswith("cancelled-step") and kept[0].endswith(".safetensors")


def test_the_saved_word_works_in_cores_text_encode(server, prompt, result):
    graph = copy.deepcopy(prompt)
    place = next(k for k, n in graph.items() if n["class_type"] == "AAI_SoundTokenConditioning")
    clip = graph[place]["inputs"]["clip"]
    graph[place] = {
        "class_type": "CLIPTextEncode",
        "inputs": {"clip": clip, "text": "a photo of embedding:thunder"},
    }
    again = server.run(graph, timeout=120)
    for one, other in zip(result.images(), again.images(), strict=True):
        pixels = [Image.open(io.BytesIO(server.image(i))).convert("RGB").tobytes() for i in (one, other)]
        assert max(abs(a - b) for a, b in zip(*pixels, strict=True)) <= 2
