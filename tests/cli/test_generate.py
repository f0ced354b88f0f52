"""`aai generate`: pictures with sound tokens in them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from aai.token import SoundToken


def test_generate_draws_with_tokens_and_repeats_itself(aai, rain_token, folder):
    arguments = ("generate", "--token", "rain.safetensors", "--steps", "2", "--seed", "7", "--json")
    code, out, err = aai(*arguments, "--prompt", "a city under <rain>", "--count", "2", "-o", "city.png")
    assert code == 0 and not err
    report = json.loads(out)
    assert [p["seed"] for p in report["pictures"]] == [7, 8] and report["tokens"] == ["rain"]
    with Image.open(folder / "city_7.png") as first:
        assert first.size == (128, 128)
        first = np.asarray(first)
    code, out, _ = aai(*arguments, "--prompt", "a city under <rain>", "-o", "again.png")
    with Image.open(folder / "again.png") as again:
        assert np.array_equal(np.asarray(again), first)
    code, _, err = aai(*arguments[:-1], "-o", "a.png", "--width", "64", "--height", "96")
    assert code == 0
    with Image.open(folder / "a.png") as small:
        assert small.size == (64, 96)


def test_what_cannot_be_drawn_gets_one_sentence(aai, rain_token, capsys):
    arguments = ("generate", "--token", "rain.safetensors", "--steps", "1", "-o", "no.png")
    for more, words in (
        (("--width", "4"), "4 pixels are fewer"),
        (("--height", "0"), "0 pixels are fewer"),
        (("--seed", str(2**70)), "not a seed"),
        (("--seed", "-1"), "not a seed"),
        (("--scale", "1,5"), "with a point, as 1.5"),
        (("--name", "x" * 300, "--sound", "rain.wav"), "cannot name a sound token"),
        (("--name", "other", "--sound", "rain.wav", "--start", "1e308"), "cannot be cut"),
        (("-o", "x" * 300 + ".png"), "can name no file"),
    ):
        try:
            code, _, err = aai(*arguments, *more)
        except SystemExit as stop:
            code, err = stop.code, capsys.readouterr().err
        assert code and words in err and "Traceback" not in err, err


def test_a_negative_prompt_may_name_a_token(aai, rain_token):
    arguments = ("generate", "--token", "rain.safetensors", "--steps", "1", "--prompt", "a city under *")
    pictures = []
    for name, negative in (("star.png", "*"), ("name.png", "<rain>"), ("city.png", "a city")):
        code, _, err = aai(*arguments, "-o", name, "--negative", negative)
        assert code == 0 and "weight" not in err
        pictures.append(np.asarray(Image.open(name)))
    assert np.array_equal(*pictures[:2]) and not np.array_equal(*pictures[1:])


def test_weights_of_words_are_said_to_be_characters(aai):
    arguments = ("generate", "--steps", "1", "--prompt", "a city", "-o", "weighted.png")
    code, _, err = aai(*arguments, "--negative", "(city:1.5)")
    assert code == 0 and "'(city:1.5)' is read as characters" in err


@pytest.mark.parametrize(
    ("ending", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")]
)
def test_a_pictures_ending_is_its_format(aai, folder, ending, kind):
    said = ("generate", "--prompt", "a city", "--steps", "1", "-o", f"city.{ending}")
    for _ in range(2):
        code, _, err = aai(*said)
        assert code == 0, err
    with Image.open(folder / f"city.{ending}") as drawn:
        assert drawn.format == kind and drawn.size == (128, 128)
    Image.new("RGB", (8, 8)).save(folder / f"city.{ending}")
    code, _, err = aai(*said)
    assert code == 2 and "was not written by aai" in err
    with Image.open(folder / f"city.{ending}") as kept:
        assert kept.size == (8, 8)
    assert aai(*said, "--force")[0] == 0


def test_the_device_that_is_named_draws(aai, folder):
    code, _, err = aai("generate", "--prompt", "a city", "--steps", "1", "-o", "z.png", "--device", "cpu")
    assert code == 0, err
    with Image.open(folder / "z.png") as drawn:
        assert drawn.size == (128, 128)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--token", "nowhere.safetensors", "-o", "x.png"), "nowhere.safetensors"),
        (("--token", "rain.wav", "-o", "x.png"), "rain.wav"),
        (("--token", "wide.safetensors", "-o", "x.png"), "768"),
        (("--token", "rain.safetensors", "--prompt", "a <fog>", "-o", "x.png"), "<fog>"),
        (("--token", "rain.safetensors", "--prompt", "a " * 90 + "*", "-o", "x.png"), "too long"),
        (("--token", "rain.safetensors", "-o", "nowhere/x.png"), "nowhere"),
        (
            ("--token", "rain.safetensors", "--prompt", "a city", "--scale", "0.5", "-o", "x.png"),
            "'a city' names no sound token: write * or <name>",
        ),
        (("--token", "rain.safetensors", "--prompt", "a city", "-o", "x.png"), "no sound token"),
        (("--prompt", "a *", "--scale", "0.5", "-o", "x.png"), "give one with --token or --sound"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_gets_one_sentence(aai, folder, rain_token, arguments, says):
    SoundToken("wide", {"clip_l": torch.randn(1, 768)}).save(folder / "wide.safetensors")
    code, out, err = aai("generate", *arguments)
    assert code == 2 and not out
    assert says in err and err.startswith("aai: ") and err.count("\n") == 1
    assert not list(folder.glob("x.*")) and not list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--prompt", "a city"), "The prompt 'a city' names no sound token"),
        (("--prompt", "a <fog>"), "names <fog>, but there is no such sound token (there is <rain>)"),
        (("--negative", "<fog>"), "names <fog>"),
        (("--token", "rain.safetensors"), "Two sound tokens of one prompt are named 'rain'"),
        (("--token", "wide.safetensors"), "is of width 768"),
        (("--token", "deaf.safetensors", "--scale", "loudness"), "<deaf> does not know its sound's loudness"),
        (("--prompt", "a " * 90 + "*"), "prompt is too long"),
        (("--prompt", "a " * 74 + "*", "--vectors", "2"), "prompt is too long"),
        ((), "A step was trained"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_what_is_wrong_is_told_before_a_token_is_trained(aai, folder, rain_token, untrained, arguments, says):
    for name, width in (("wide", 768), ("deaf", 192)):
        SoundToken(name, {"clip_l": torch.randn(1, width)}).save(folder / f"{name}.safetensors")
    code, out, err = aai("generate", "--sound", "rain.wav", "-o", "untrained.png", *arguments)
    assert code == 2 and not out and says in err and err.count("\n") == 1
