"""SoundWorld's flow transformer on the command line: `--model soundworld-flow`."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from aai import token as tokens
from aai.files import write_safetensors
from aai.soundworld import loaders
from aai.soundworld.models import FLOW_FAMILY, build_flow

FLOW = ("--model", "soundworld-flow")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """SoundWorld's weights with a flow transformer of random ones."""
    folder = shutil.copytree(loaders.WEIGHTS, tmp_path / "weights", copy_function=os.link)
    (folder / "flow.safetensors").unlink(missing_ok=True)
    torch.manual_seed(0)
    state = {k: v.half() for k, v in build_flow().state_dict().items()}
    write_safetensors(folder / "flow.safetensors", state, {}, "SoundWorld's weights")
    monkeypatch.setattr(loaders.load_picture_model, "__defaults__", (folder, "unet"))
    return folder


def test_a_token_is_trained_and_drawn_with_it(aai, weights, folder):
    code, out, err = aai("token", "rain.wav", *FLOW, "-o", "flow.safetensors", "--train-steps", "2", "--json")
    assert code == 0, err
    made = tokens.load(folder / "flow.safetensors")
    assert json.loads(out)["steps"] == 2 and FLOW_FAMILY in made.provenance["base"]
    assert made.vectors["clip_l"].shape == (1, 192)
    arguments = ("generate", *FLOW, "--token", "flow.safetensors", "--steps", "2", "--seed", "7")
    code, out, err = aai(*arguments, "--prompt", "a city under *", "-o", "city.png")
    assert code == 0, err
    with Image.open(folder / "city.png") as picture:
        assert picture.size == (128, 128)
        drawn = np.asarray(picture).astype(int)
    # Its own guidance is 3.
    assert aai(*arguments, "--prompt", "a city under *", "-o", "three.png", "--guidance", "3")[0] == 0
    assert np.abs(np.asarray(Image.open(folder / "three.png")).astype(int) - drawn).max() == 0
    assert aai(*arguments, "--prompt", "a city under *", "-o", "five.png", "--guidance", "5")[0] == 0
    assert np.abs(np.asarray(Image.open(folder / "five.png")).astype(int) - drawn).max() > 0


def test_an_edit_and_an_edited_photograph(aai, weights, folder):
    made = ("--sound", "rain.wav", "--train-steps", "1", "--steps", "3", "--source", "a city", *FLOW)
    code, out, err = aai(
        "edit", *made, "--edited", "a city under *", "--scale", "0,1", "-o", "e.png", "--json"
    )
    assert code == 0, err
    rows = json.loads(out)["pictures"]
    assert [row["scale"] for row in rows] == [None, 0.0, 1.0]
    source, zero, one = (np.asarray(Image.open(folder / row["file"])).astype(int) for row in rows)
    assert np.abs(zero - source).mean() < np.abs(one - source).mean()
    given = ("--picture", "pictures/0.png", "--edited", "a city under *")
    code, out, err = aai("edit", *made, *given, "-o", "photo.png", "--strength", "1", "--json")
    assert code == 0, err
    names = [row["file"] for row in json.loads(out)["pictures"]]
    before, after = (np.asarray(Image.open(folder / name)).astype(int) for name in names)
    assert np.abs(after - before).max() > 0


@pytest.mark.parametrize(
    "command, told",
    [
        (
            ("generate", "--sound", "rain.wav", "--scale", "0.5", "-o", "no.png"),
            f"attention of {FLOW_FAMILY}",
        ),
        (("invert", "pictures/0.png", "--prompt", "a city", "-o", "no.safetensors"), "without inverting it"),
    ],
    ids=["generate", "invert"],
)
def test_what_it_cannot_is_refused_before_anything_is_trained(aai, weights, command, told):
    code, out, err = aai(*command, *FLOW)
    assert code == 2 and not out and err.count("\n") == 1 and told in err


@pytest.mark.parametrize(
    "more, told",
    [
        (("--scale", "0.5"), "has no scale"),
        (("--null-text",), "leave --null-text out"),
        (("--strength", "0"), "A strength of 0 edits nothing"),
        (("--edited", "a city"), "names no sound token"),
        (("--count", "2"), "leave --count out"),
        (("--edited", "rain " * 80 + "*"), "prompt is too long"),
        *(
            ((name, *value), f"so {name} does nothing")
            for name, *value in (
                ("--blend", "*"),
                ("--blend-changes",),
                ("--blend-start", "0.2"),
                ("--self-until", "0"),
                ("--style",),
                ("--cross-until", "0.8"),
                ("--silence", "full"),
                ("--edited-pooled",),
                ("--invert-steps", "5"),
                ("--self-downscale", "4"),
            )
        ),
        (("--trajectory", "other.safetensors"), "two sources"),
        ((), "A step was trained"),
    ],
)
def test_what_an_edited_photograph_cannot_be(aai, weights, untrained, more, told):
    code, _, err = aai(
        "edit", *FLOW, "--sound", "rain.wav", "--train-steps", "1", "--picture", "pictures/0.png",
        "--source", "a city", "--edited", "a city under *", "-o", "no.png", "--steps", "2", *more,
    )  # fmt: skip
    assert code == 2 and err.strip().count("\n") == 0 and told in err


@pytest.mark.parametrize("more", [("--cross-until", "0.8"), ("--self-downscale", "4")])
def test_what_its_attention_has_not_is_refused(aai, weights, untrained, more):
    code, _, err = aai(
        "edit", *FLOW, "--sound", "rain.wav", "--source", "a city", "--edited", "a city *", "-o", "no.png",
        *more,
    )  # fmt: skip
    assert code == 2 and err.count("\n") == 1 and f"so {more[0]} does nothing" in err


def test_where_its_weights_are_missing_a_sentence_says_so(aai, tmp_path, monkeypatch):
    monkeypatch.setattr(loaders.load_picture_model, "__defaults__", (tmp_path, "unet"))
    code, _, err = aai("generate", *FLOW, "--prompt", "a city", "-o", "no.png")
    assert code == 2 and "flow.safetensors" in err and err.count("\n") == 1
