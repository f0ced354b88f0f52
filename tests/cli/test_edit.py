"""`aai edit` and `aai invert`: a sound changes a picture, drawn or the user's own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from aai import token as tokens
from aai.errors import InputError
from aai.inject.invert import Trajectory
from aai.picture.diffusers import DiffusersPictureModel


def test_edit_draws_the_source_and_its_edits(aai, rain_token, folder):
    asked = ("edit", "--token", str(rain_token), "--source", "a city", "--steps", "3", "--json")
    code, out, _ = aai(*asked, "--edited", "a city under *", "--scale", "0, 1", "-o", "city.png")
    rows = json.loads(out)["pictures"]
    assert code == 0
    assert [row["file"] for row in rows] == ["city_source.png", "city_1.png", "city_2.png"]
    assert [row["scale"] for row in rows] == [None, 0, 1] and rows[2]["prompt"] == "a city under *"
    source, silent, loud = (np.array(Image.open(folder / row["file"])).astype(int) for row in rows)
    assert abs(silent - source).max() <= 2 < abs(loud - source).max()
    aai("generate", "--prompt", "a city", "--steps", "3", "-o", "alone.png", "--seed", "0")
    assert abs(np.array(Image.open(folder / "alone.png")).astype(int) - source).max() <= 2
    code, out, _ = aai(*asked, "--edited", "* city", "--blend", "*", "--scale", "loudness", "-o", "b.png",
                       "--blend-changes", "--blend-start", "0.5", "--blend-threshold", "0.6",
                       "--edited-pooled")  # fmt: skip
    assert code == 0 and 0 <= json.loads(out)["pictures"][1]["scale"] <= 2


@pytest.mark.parametrize("model", ["soundworld", "soundworld-flow"])
def test_each_of_several_seeds_is_drawn_as_it_is_alone(aai, rain_token, folder, model):
    asked = ("edit", "--token", str(rain_token), "--source", "a city", "--edited", "a city under *",
             "--scale", "0.5,1", "--steps", "2", "--model", model, "--json")  # fmt: skip
    code, out, err = aai(*asked, "--count", "2", "--seed", "3", "-o", "both.png")
    assert code == 0, err
    rows = json.loads(out)["pictures"]
    assert [(row["seed"], row["scale"]) for row in rows] == [(s, e) for s in (3, 4) for e in (None, 0.5, 1)]
    for seed in (3, 4):
        alone = json.loads(aai(*asked, "--seed", str(seed), "-o", f"alone{seed}.png")[1])["pictures"]
        for own, other in zip([row for row in rows if row["seed"] == seed], alone):
            assert (own["scale"], own["prompt"]) == (other["scale"], other["prompt"])
            pictures = (np.asarray(Image.open(folder / row["file"])) for row in (own, other))
            assert np.array_equal(*pictures)


def test_seeds_are_drawn_in_turn(aai, monkeypatch):
    """Together, the pictures of a real model do not fit into its memory."""
    drawn, sample = [], DiffusersPictureModel.sample

    def noted(self, *given, seeds, **options):
        drawn.append(seeds)
        return sample(self, *given, seeds=seeds, **options)

    monkeypatch.setattr(DiffusersPictureModel, "sample", noted)
    aai("generate", "--prompt", "a city", "--steps", "1", "--count", "3", "--seed", "5", "-o", "turn.png")
    assert drawn == [[5], [6], [7]]


def test_a_picture_is_inverted_once_and_edited(aai, rain_token, folder):
    Image.effect_noise((128, 128), 60).resize((64, 96)).save(folder / "mine.png")
    code, _, _ = aai(
        "invert", "mine.png", "--prompt", "a city", "-o", "way.safetensors", "--invert-steps", "4"
    )
    assert code == 0
    asked = ("edit", "--token", str(rain_token), "--edited", "a city under *", "--steps", "3", "-o", "m.png")
    code, out, err = aai(*asked, "--trajectory", "way.safetensors", "--json")
    assert code == 0, err
    assert json.loads(out)["source"] == "a city"
    kept = np.array(Image.open(folder / "m_source.png")).astype(int)
    assert kept.shape == (96, 64, 3)
    aai(*asked, "--picture", "mine.png", "--source", "a city", "--invert-steps", "4")
    assert abs(np.array(Image.open(folder / "m_source.png")).astype(int) - kept).max() <= 1


def test_every_sound_has_its_own_loudness(aai, rain_token, folder, monkeypatch):
    rain = tokens.load(rain_token)
    for name, loudness in (("loud", -23.0), ("soft", -33.0), ("deaf", None)):
        replace(rain, name=name, loudness=loudness).save(folder / f"{name}.safetensors")
    asked = []

    def sample(self, *_, edit, **__):
        asked.append([dict(scales) for scales in edit.scales])
        raise InputError("enough")

    monkeypatch.setattr(DiffusersPictureModel, "sample", sample)
    held = [part for name in ("loud", "soft", "deaf") for part in ("--token", f"{name}.safetensors")]
    said = (*held, "--scale", "loudness", "-o", "l.png")
    aai("generate", *said, "--prompt", "<loud> and <soft>")
    aai("edit", *said, "--source", "a city", "--edited", "a city under <soft>", "--edited", "a <loud> city")
    assert asked == [[{"loud": 1.0, "soft": 0.5}], [{"soft": 0.5}, {"loud": 1.0}]]
    code, _, err = aai("generate", *said, "--prompt", "<loud> and <deaf>")
    assert code == 2 and "<deaf> does not know its sound's loudness" in err and len(asked) == 2


def test_null_text_of_a_file_is_sampled_as_it_was_made(aai, rain_token, folder, monkeypatch):
    trajectory = Trajectory(
        torch.tensor([2.0, 1.0, 0.0]), torch.zeros(3, 32, 16, 16), torch.zeros(2, 77, 192)
    )
    replace(trajectory, guidance=7.5).save(folder / "null.safetensors", "a city")
    asked = []

    def sample(self, *_, steps, guidance, **__):
        asked.append((steps, guidance))
        raise InputError("enough")

    monkeypatch.setattr(DiffusersPictureModel, "sample", sample)
    said = ("edit", "--token", str(rain_token), "--edited", "a city under *", "-o", "n.png")
    for more in ((), ("--steps", "5", "--guidance", "3")):
        aai(*said, "--trajectory", "null.safetensors", *more)
    trajectory.save(folder / "null.safetensors", "a city")
    aai(*said, "--trajectory", "null.safetensors")
    aai(*said, "--source", "a city")
    assert asked == [(2, 7.5), (5, 3.0), (2, 5.0), (30, 5.0)]


def test_half_precision_draws_nearly_the_same(aai, rain_token, folder):
    Image.effect_noise((64, 64), 60).save(folder / "half.png")
    for dtype in ("float16", "float32"):
        code, _, err = aai(
            "edit", "--token", str(rain_token), "--picture", "half.png", "--source", "a city",
            "--edited", "a city *", "--scale", "0.5", "--blend", "*", "--blend-changes",
            "--invert-steps", "2", "--steps", "2", "--dtype", dtype, "-o", f"{dtype}.png",
        )  # fmt: skip
        assert code == 0, err
    for place in ("", "_source"):
        half, whole = (
            np.asarray(Image.open(folder / f"{d}{place}.png"), int) for d in ("float16", "float32")
        )
        assert 0 < abs(half - whole).max() and abs(half - whole).mean() < 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--edited", "a city", "--source", "a city"), "names no sound token"),
        (("--edited", "a *"), "no source prompt"),
        (("--edited", "a *", "--source", "a city", "--scale", "5"), "drowns"),
        (("--edited", "a *", "--source", "a city", "--cross-until", "1.5"), "cross window"),
        (("--edited", "a *", "--source", "a city", "--blend", "sea"), "not in the prompt"),
        (("--edited", "a *", "--source", "a city", "--scale=-1"), "opposite"),
        (("--edited", "a *", "--source", "a city", "--self-until", "-0.1"), "self window"),
        (("--edited", "a *", "--source", "a city", "--blend", "*", "--blend-start", "3"), "no share"),
        (("--edited", "a *", "--source", "a city", "--mask", "rain.wav"), "cannot be read as a picture"),
        (("--edited", "rain " * 80 + "*", "--source", "a city"), "prompt is too long"),
        (("--edited", "a <dog>", "--source", "a city"), "no such sound token"),
        (("--edited", "a *", "--edited", "* a", "--source", "a", "--scale", "0,1,2"), "do not go with 2"),
        (("--edited", "a *", "--trajectory", "rain.wav"), "no inverted picture"),
        (("--edited", "a *", "--source", "a city", "--picture", "rain.wav"), "cannot be read as a picture"),
    ],
)
def test_bad_edits_get_one_sentence(aai, rain_token, arguments, says):
    code, out, err = aai("edit", "--token", str(rain_token), "-o", "e.png", *arguments)
    assert code == 2 and not out
    assert says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--edited", "a *"), "no source prompt: say what the picture before shows"),
        (("--edited", "a *", "--picture", "pictures/0.png"), "no source prompt: say what the picture shows"),
        (("--edited", "a city", "--source", "a"), "The edited prompt 'a city' names no sound token"),
        (("--edited", "a <dog>", "--source", "a"), "names <dog>"),
        (("--edited", "a *", "--source", "a <dog>"), "names <dog>"),
        (("--edited", "a *", "--source", "a", "--negative", "<dog>"), "names <dog>"),
        (("--edited", "a *", "--source", "a", "--token", "rain.safetensors"), "are named 'rain'"),
        (("--edited", "a *", "--edited", "* a", "--source", "a", "--scale", "0,1,2"), "do not go with 2"),
        (("--edited", "a *", "--source", "a", "--cross-until", "1.5"), "cross window"),
        (("--edited", "a *", "--source", "a", "--blend", "sea"), "not in the prompt"),
        (("--edited", "a *", "--source", "a", "--mask", "rain.wav"), "cannot be read as a picture"),
        (("--edited", "rain " * 80 + "*", "--source", "a"), "prompt is too long"),
        (("--edited", "a *", "--source", "a", "--picture", "rain.wav"), "cannot be read as a picture"),
        (("--edited", "a *", "--trajectory", "rain.wav"), "no inverted picture"),
        (("--edited", "a *", "--trajectory", "other.safetensors"), "was inverted with another model"),
        (("--edited", "a *", "--source", "a", "--picture", "pictures/0.png", "--count", "2"), "one noise"),
        (("--edited", "a *", "--trajectory", "other.safetensors", "--count", "2"), "one noise"),
        (("--edited", "a *", "--source", "a", "--strength", "0.5"), "--strength is for a picture"),
        (
            ("--edited", "a *", "--source", "a", "--picture", "pictures/0.png", "--source-guidance", "1"),
            "--source-guidance is for a picture (--picture) that a flow model edits",
        ),
        (
            ("--edited", "a *", "--source", "a", "--invert-steps", "5"),
            "so --invert-steps does nothing: give --picture too",
        ),
        (
            ("--edited", "a *", "--trajectory", "other.safetensors", "--null-text"),
            "No picture is inverted now",
        ),
        (("--edited", "a *", "--source", "a"), "A step was trained"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_what_is_wrong_is_told_before_a_token_is_trained(aai, folder, rain_token, untrained, arguments, says):
    sigmas, latents = torch.tensor([2.0, 1.0, 0.0]), torch.zeros(3, 32, 16, 16)
    Trajectory(sigmas, latents, model="beef").save(folder / "other.safetensors", "a city")
    code, out, err = aai("edit", "--sound", "rain.wav", "-o", "untrained.png", *arguments)
    assert code == 2 and not out and says in err and err.count("\n") == 1
