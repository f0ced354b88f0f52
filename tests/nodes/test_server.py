"""A real ComfyUI server with the packed release among its custom nodes: templates, refusals, Cancel."""

from __future__ import annotations

import copy
import json
import time
import urllib.request
import zipfile
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from aai.demo.comfy_server import PACK_NAME, ComfyError, ComfyServer
from aai.token import SoundToken

ROOT = Path(__file__).parents[2]
WORKFLOWS = {
    p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (ROOT / "example_workflows").glob("*.json")
}
WORKFLOW = WORKFLOWS["sound_to_picture"]


@pytest.fixture(scope="module")
def server(comfy_path, release, tmp_path_factory):
    """A server on an empty base directory, with the release unpacked among its custom nodes."""
    base = tmp_path_factory.mktemp("server")
    pack = base / "custom_nodes" / PACK_NAME
    with zipfile.ZipFile(release) as file:
        file.extractall(pack)
    with ComfyServer(comfy_path, base, pack) as server:
        yield server


@pytest.fixture(scope="module")
def prompt(server):
    """The example as an API prompt, with few steps."""
    prompt = server.prompt(WORKFLOW, awake=True)
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
    saved = server.pictures(result)
    assert len(saved) == 4
    for file in saved:
        picture = Image.open(file)
        assert picture.size == (128, 128)
        assert len(picture.convert("L").getcolors(256)) > 20


def test_the_example_runs_where_the_machines_encoding_is_not_utf8(comfy_path, release, tmp_path):
    """As on Windows outside of its UTF-8 mode. Known there, and not ours: ComfyUI's own log cannot print its
    dashes and bars, so that it does not start without PYTHONIOENCODING; and where file names are ASCII too,
    which Windows' never are, tokenizers takes no vocabulary from a folder called "Größe", and a sound called
    "grün.wav" has another name for ComfyUI's menus than for its prompts.
    """
    pack = tmp_path / "custom_nodes" / PACK_NAME
    with zipfile.ZipFile(release) as file:
        file.extractall(pack)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    with ComfyServer(comfy_path, tmp_path, pack, environment=plain) as server:
        prompt = changed(server.prompt(WORKFLOW, awake=True), "AAI_TrainSoundToken", steps=3)
        prompt = changed(prompt, "AAI_SoundTokenConditioning", prompt="a 'café' under *")
        prompt = changed(prompt, "KSampler", steps=2)
        result = server.run(prompt, timeout=300)
        assert len(server.pictures(result)) == 4
        assert "thunder" in " ".join(result.texts())
        assert server.complaints() == []


def test_the_example_makes_its_word_at_once_as_it_is(server):
    prompt = changed(server.prompt(WORKFLOW), "KSampler", steps=2)
    kinds = [n["class_type"] for n in prompt.values()]
    assert "AAI_InstantSoundToken" in kinds and "AAI_TrainSoundToken" not in kinds
    result = server.run(prompt, timeout=300)
    assert len(server.pictures(result)) == 4 and "embedding:sounds/thunder" in " ".join(result.texts())


def test_the_example_says_what_it_hears_and_saves_the_token(server, result):
    texts = " ".join(result.texts())
    assert "thunder" in texts and "embedding:sounds/thunder" in texts
    assert (server.base / "models" / "embeddings" / "sounds" / "thunder.safetensors").is_file()


def test_nothing_in_the_log_complains_of_the_pack(server, result):
    assert server.complaints() == []
    assert "does not exist, ignoring" not in server.log


def test_the_pack_imports_fast(server):
    assert server.import_seconds() <= 0.3


def test_the_web_folder_is_served(server):
    assert any(
        path.endswith("load_audio.js") for path in server.get("/extensions") if "aai-sound-tokens" in path
    )


def test_the_templates_sounds_and_picture_lie_in_the_input_folder(server):
    wanted = {
        saved["widgets_values"][0]
        for workflow in WORKFLOWS.values()
        for saved in workflow["nodes"]
        if saved["type"] in ("AAI_LoadAudio", "LoadImage")
    }
    assert wanted == {file.name for file in (ROOT / "example_workflows" / "input").iterdir()}
    assert all((server.input / name).is_file() for name in wanted)


def quick(server, name: str) -> dict:
    """A template as a prompt, its training and its sampling cut to a few steps."""
    graph = server.prompt(WORKFLOWS[name])
    for part in graph.values():
        if part["class_type"] in ("AAI_TrainSoundToken", "KSampler"):
            part["inputs"]["steps"] = 6
    return graph


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("sound_edit", 2),
        ("sound_edit_flow", 2),
        ("word_weight", 6),
        ("stylize", 2),
        ("loudness_sweep", 6),
        ("photograph", 2),
        ("two_sounds", 4),
        ("share_token", 4),
    ],
)
def test_every_template_runs_as_it_is(server, name, count):
    saved = server.pictures(server.run(quick(server, name), timeout=300))
    pixels = [Image.open(file).convert("RGB").tobytes() for file in saved]
    assert len(pixels) == count
    # Scale 0 is the source picture; every other is another.
    assert len(set(pixels)) == count - (name == "loudness_sweep")


def test_the_film_template_makes_a_film_with_its_sound(server):
    (file,) = server.pictures(server.run(quick(server, "sound_film"), timeout=600))
    with av.open(file) as film:
        assert len(list(film.decode(video=0))) == 44 and film.streams.audio
        assert film.streams.video[0].average_rate == 4


def test_a_cancelled_film_goes_on_where_it_stopped(server):
    graph = quick(server, "sound_film")
    node(graph, "KSampler")["inputs"]["seed"] = 5
    node(graph, "AAI_PromptToPromptEdit")["inputs"]["chunk"] = 4
    films = server.base / "user" / "aai_films"
    queued, begin = server.queue(graph), time.monotonic()
    while len(list(films.rglob("*.safetensors"))) < 5 and time.monotonic() - begin < 300:
        time.sleep(0.05)
    server.interrupt()
    with pytest.raises(ComfyError, match="interrupted"):
        server.wait(queued, timeout=120)
    kept = len(list(films.rglob("*.safetensors")))
    # Core has thrown the list away, and runs KSampler's node from its first chunk on.
    assert kept >= 5 and "from the run before" not in server.log
    server.run(graph, timeout=600)
    assert server.log.count("4 frames are there from the run before") == kept // 5
    assert not list(films.rglob("*.safetensors"))


def test_a_shared_token_is_one_file_that_says_where_it_comes_from(server):
    server.run(quick(server, "share_token"), timeout=300)
    names = [path.name for path in (server.base / "models" / "embeddings" / "sounds").glob("my_fireworks*")]
    assert names == ["my_fireworks.safetensors"]
    loaded = {
        "1": {"class_type": "AAI_LoadSoundToken", "inputs": {"file": f"sounds/{names[0]}"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    (provenance,) = server.run(loaded, timeout=60).texts()
    assert "my_fireworks" in provenance and "steps" in provenance


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_template_has_a_picture_a_note_and_no_strangers_node(server, name):
    """The note names the three widgets to change for a checkpoint of one's own; nodes are core's and ours."""
    with Image.open(ROOT / "example_workflows" / f"{name}.jpg") as picture:
        assert min(picture.size) >= 384
    (note,) = [n["widgets_values"][0] for n in WORKFLOWS[name]["nodes"] if n["type"] == "MarkdownNote"]
    own = note[note.index("**Your own checkpoint.**") :]
    assert [line[:3] for line in own.splitlines() if line[:1].isdigit()] == ["1. ", "2. ", "3. "]
    info = server.object_info()
    for saved in WORKFLOWS[name]["nodes"]:
        if saved["type"] != "MarkdownNote":
            module = info[saved["type"]]["python_module"]
            assert module.startswith(("nodes", "comfy_extras.")) or PACK_NAME in module, saved["type"]


def test_languages_help_and_templates_are_served(server):
    spoken = server.get("/i18n")
    for language in ("de", "en", "es", "fr", "ja", "ko", "zh"):
        node = spoken[language]["nodeDefs"]["AAI_EncodeSound"]
        assert node["display_name"] and node["inputs"]["audio"]["tooltip"], language
    assert sorted(server.get("/workflow_templates")[PACK_NAME]) == sorted(WORKFLOWS)
    for path in (
        f"/extensions/{PACK_NAME}/docs/AAI_EncodeSound.md",
        f"/api/workflow_templates/{PACK_NAME}/sound_to_picture.jpg",
    ):
        with urllib.request.urlopen(server.url + path, timeout=30) as answer:
            assert answer.status == 200 and answer.read()


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
        required, optional = (set(spec["input"].get(kind, {})) for kind in ("required", "optional"))
        # And an optional input more.
        missing = required | optional if saved["type"].startswith("AAI_") else required
        names = {i["name"] for i in saved["inputs"]}
        assert missing <= names <= required | optional, saved["type"]


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
        "inputs": {"clip": clip, "text": "a photo of embedding:sounds/thunder"},
    }
    again = server.run(graph, timeout=120)
    for files in zip(server.pictures(result), server.pictures(again), strict=True):
        pixels = [Image.open(file).convert("RGB").tobytes() for file in files]
        assert max(abs(a - b) for a, b in zip(*pixels, strict=True)) <= 2


def test_text_that_is_no_unicode_does_not_end_the_queue(server, prompt):
    """Half an emoji in a prompt, a Latin-1 file name: one sentence each, and the next prompt runs."""
    bad = server.input / "caf\udce9.wav"
    bad.write_bytes(b"no sound at all")
    heard = {
        "1": {"class_type": "AAI_LoadAudio", "inputs": {"audio": bad.name, "start": 0.0, "length": 1.0}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    embeddings = server.base / "models" / "embeddings"
    embeddings.mkdir(parents=True, exist_ok=True)
    SoundToken("dog", {"clip_l": torch.randn(1, 192)}).save(embeddings / "dog.safetensors")
    clip = node(prompt, "AAI_SoundTokenConditioning")["inputs"]["clip"][1]
    world = {
        "1": {"class_type": "AAI_LoadSoundWorld", "inputs": {}},
        "2": {"class_type": "AAI_LoadSoundToken", "inputs": {"file": "dog.safetensors"}},
        "3": {
            "class_type": "AAI_SoundTokenConditioning",
            "inputs": {"clip": ["1", clip], "token": ["2", 0], "prompt": "a <cat\ud83d>"},
        },
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }
    for graph, words in (
        (heard, "caf\\udce9.wav"),
        (world, "<cat\\ud83d>"),
        (changed(world, "AAI_SoundTokenConditioning", prompt="a \ud83d and *"), "\\ud83d"),
    ):
        with pytest.raises(ComfyError) as caught:
            server.run(graph, timeout=60)
        assert words in caught.value.message and "codec" not in caught.value.message, caught.value.message
    assert server.run(changed(world, "AAI_SoundTokenConditioning", prompt="a *"), timeout=60).texts()


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_template_has_a_layout_for_app_mode(server, name):
    """Every sound, picture and prompt goes in, what is saved comes out; it opens as a graph all the same."""
    workflow, info = WORKFLOWS[name], server.object_info()
    assert workflow["extra"]["linearMode"] is False
    layout = workflow["extra"]["linearData"]
    nodes = {str(n["id"]): n for n in workflow["nodes"]}
    for number, widget in layout["inputs"]:
        assert nodes[number].get("mode", 0) == 0
        assert widget in [i["name"] for i in nodes[number]["inputs"] if "widget" in i], (number, widget)
    shown = {(nodes[number]["type"], widget) for number, widget in layout["inputs"]}
    wanted = {
        (saved["type"], slot["name"])
        for saved in nodes.values()
        for slot in saved["inputs"]
        if (saved["type"], slot["name"]) in (("AAI_LoadAudio", "audio"), ("LoadImage", "image"))
        or (saved["type"].startswith("AAI_") and slot["name"].endswith("prompt") and slot["link"] is None)
    }
    assert wanted <= shown
    saves = {number for number, n in nodes.items() if n["type"] in ("SaveImage", "SaveVideo")}
    assert layout["outputs"] == (sorted(saves) or layout["outputs"][:1])
    assert all(info[nodes[number]["type"]]["output_node"] for number in layout["outputs"])
