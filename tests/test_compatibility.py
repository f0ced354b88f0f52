"""What released versions wrote is read as it was: the same vectors, features and pictures.

`fixtures/VERSION` holds that version's files and what its own code made of them, by `fixtures/write.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from aai import audio, token
from aai.adapt.settings import TrainSettings
from aai.adapt.train import train_token
from aai.align.checkpoint import Checkpoint
from aai.align.settings import AlignSettings
from aai.align.train import Pairs, align
from aai.encoders import loaders as encoders
from aai.encoders.base import nearest_words
from aai.inject import invert
from aai.inject.edit import Edit, encode
from aai.library.index import index, read
from aai.library.towers import OwnTower
from aai.prompt import Prompt
from aai.soundworld import loaders

TESTS = Path(__file__).parent
OLD = TESTS / "fixtures" / "0.1.0"
FACTS = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
NODES = json.loads((TESTS / "nodes" / "names.json").read_text(encoding="utf-8"))
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(str(OLD / "expected.safetensors"))


@pytest.fixture(scope="module")
def encoder():
    return encoders.load(OLD / "encoder.safetensors")


@pytest.fixture(scope="module")
def picture_model():
    return loaders.load_picture_model()


def close(value: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance)


def test_a_sound_encoder_gives_the_same_features_and_words(encoder, expected):
    embedding = encoder.embed([audio.load(OLD / "sound.wav")])
    close(embedding, expected["encoder.sound"])
    assert (encoder.name, encoder.tau, encoder.space) == ("small", 0.07, "tiny")
    assert encoder.notes == {"data": "none", "made_by": "tests/fixtures/write.py"}
    for (word, score), (wanted, wanted_score) in zip(
        nearest_words(encoder, embedding)[0].words, FACTS["words"][0]
    ):
        assert word == wanted and score == pytest.approx(wanted_score, abs=1e-4)


@pytest.mark.parametrize("kind", ["hidden", "memory"])
def test_a_bridged_clap_gives_the_same_features(kind, expected):
    """`hidden` has the small network that corrects the map, which no version fits any more."""
    bridged = encoders.load(OLD / f"bridged_{kind}.safetensors")
    close(bridged.embed([audio.load(OLD / "sound.wav")]), expected[f"bridged_{kind}.sound"])


def test_a_token_has_the_same_vectors_also_with_another_sound(expected):
    rain = token.load(OLD / "token.safetensors")
    assert rain.name == "rain" and rain.provenance["steps"] == str(FACTS["training"]["steps"])
    close(rain.vectors["clip_l"], expected["token.vectors"], 1e-6)
    close(rain.f_adapter["clip_l"], expected["token.f_adapter"], 1e-6)
    close(rain.with_sound(expected["rebound.f_a"]).vectors["clip_l"], expected["rebound.vectors"], 1e-5)


def test_a_token_of_two_text_encoders_takes_another_sound(expected):
    both = token.load(OLD / "token_two_encoders.safetensors")
    assert (both.name, both.size, both.loudness) == ("two words", 2, float("-inf"))
    rebound = both.with_sound(expected["rebound.f_a"][:16])
    for key, vectors in rebound.vectors.items():
        close(vectors, expected[f"two.{key}"], 1e-5)


@pytest.mark.parametrize("name", ["foreign.safetensors", "foreign.pt"])
def test_a_foreign_embedding_has_its_vectors(name, expected):
    foreign = token.load(OLD / name)
    assert foreign.f_a is None
    close(foreign.vectors["clip_l"], expected["foreign"], 0)


def test_an_index_of_a_library_is_taken_as_it_is(encoder, expected, tmp_path):
    """No picture is seen again."""
    folder, counted = tmp_path / "library", []
    shutil.copytree(OLD / "library", folder)
    for name, stamp in FACTS["stamps"].items():
        os.utime(folder / name, ns=(stamp, stamp))
    library = index(folder, OwnTower(encoder), callback=lambda *count: counted.append(count))
    assert list(library.names) == list(FACTS["stamps"]) and not counted
    close(library.features, expected["library"], 0)
    (file,) = folder.glob(".aai-library-*")
    close(read(file, OwnTower(encoder)).features, expected["library"], 0)


def test_a_stopped_alignment_resumes_to_the_same_curve(encoder, expected, tmp_path):
    data = {name: expected[f"align.{name}"].float() for name in ("fbanks", "f_t", "f_v")}

    def batches(generator: torch.Generator, size: int) -> Pairs:
        rows = torch.randperm(8, generator=generator)[:size]
        f_t, f_v = (F.normalize(data[name][rows], dim=-1) for name in ("f_t", "f_v"))
        return Pairs(data["fbanks"][rows], f_t, f_v, rows)

    shutil.copyfile(OLD / "alignment_state.safetensors", tmp_path / "state")
    state = Checkpoint(tmp_path / "state", 100, "fixture", data["f_t"])
    model = encoders.load(OLD / "encoder.safetensors").model
    steps = []
    settings = AlignSettings(**FACTS["aligning"])
    curve = align(model, batches, settings, lambda step, *_: steps.append(step), checkpoint=state).curve
    assert steps == [4, 5, 6] and len(curve) == 6
    for figures, wanted in zip(curve, FACTS["curve"]):
        assert figures == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    with torch.no_grad():
        close(model.audio_features(data["fbanks"]), expected["align.features"], 1e-3)


def test_a_token_draws_the_same_picture(picture_model, expected):
    rain = token.load(OLD / "token.safetensors")
    cond = picture_model.encode_prompt(Prompt("a city under *", (rain,)))
    uncond = picture_model.encode_prompt(Prompt(""))
    drawn = picture_model.sample(cond, uncond, seeds=[3], steps=6, guidance=3.0)
    close(drawn, expected["picture"].float(), 4e-3)


@pytest.mark.parametrize("name", ["edit", "photograph"])
def test_an_edit_draws_the_same_pictures_also_along_a_saved_trajectory(picture_model, expected, name):
    rain, source, trajectory = token.load(OLD / "token.safetensors"), Prompt("a city"), None
    if name == "photograph":
        trajectory, prompt = invert.load(OLD / "trajectory.safetensors")
        assert prompt == source.text
    edited = (Prompt("a city under *", (rain,)),)
    edit = Edit(source, edited, (0.0, 0.5), (0.0, 0.5), trajectory=trajectory)
    cond, uncond = encode(picture_model.encode_prompt, edit), picture_model.encode_prompt(Prompt(""))
    drawn = picture_model.sample(cond, uncond, seeds=[3], steps=6, guidance=3.0, edit=edit)
    close(drawn, expected[name].float(), 4e-3)


@pytest.mark.training
def test_a_stopped_token_resumes_to_the_same_token(picture_model, expected):
    stopped, steps = token.load(OLD / "token_stopped.safetensors"), []
    finished = train_token(
        picture_model,
        expected["soundworld.f_a"],
        expected["training.latents"],
        TrainSettings(**FACTS["training"]),
        "rain",
        encoded=True,
        resume=stopped,
        callback=lambda step, *_: steps.append(step),
    ).token
    assert steps == [4, 5, 6]
    close(finished.vectors["clip_l"], expected["token.vectors"], 2e-3)


@pytest.mark.parametrize("path", sorted((OLD / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_a_saved_workflow_finds_its_nodes_inputs_and_outputs(path):
    """A widget's value is kept by its place alone, so the old ones must come first and in their order."""
    for saved in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if not saved["type"].startswith("AAI_"):
            continue
        node = NODES[saved["type"]]
        kinds = {name: kind for name, kind, _ in node["inputs"]}
        assert all(kinds[slot["name"]] == slot["type"] for slot in saved["inputs"]), saved["type"]
        # A slot shows the output's display name; links know it by its place.
        outputs = [slot["type"] for slot in saved["outputs"]]
        assert outputs == [kind for _, kind in node["outputs"]][: len(outputs)], saved["type"]
        widgets = [slot["name"] for slot in saved["inputs"] if "widget" in slot]
        assert widgets == [name for name, kind in kinds.items() if kind in WIDGETS][: len(widgets)]
