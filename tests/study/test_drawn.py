"""AIS, AIC and IIS of folders of pictures, by hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from aai import audio
from aai.errors import InputError
from aai.study.drawn import DrawnScores, Heard, heard_of, measure, pictures_by_sound
from aai.study.scores import Space

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def world(tmp_path):
    """Sounds dog/1.wav, dog/2.wav and rain/1.wav of 0.1, 0.2 and 0.3 s, and draw(picture, colour)."""
    for name, seconds in (("dog/1", 0.1), ("dog/2", 0.2), ("rain/1", 0.3)):
        path = tmp_path / "sounds" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.save(audio.Sound(0.1 * torch.randn(1, round(seconds * 16000)), 16000), path)

    def draw(name, colour):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), COLOURS[colour]).save(path)

    return tmp_path, draw


def space():
    """Pictures are their colour; the sounds are red, green and blue, a dog is red and a rain blue."""
    return Space(
        images=lambda pictures: F.normalize(pictures.mean((2, 3)), dim=-1),
        sounds=lambda sounds: torch.eye(3)[[round(10 * s.seconds) - 1 for s in sounds]],
        words=lambda names: torch.eye(3)[[{"a dog": 0, "a rain": 2}[name] for name in names]],
        template="a {}",
    )


def test_pictures_find_their_sound_by_name_and_where_names_repeat_by_class(world):
    folder, draw = world
    for name in (
        "drawn/dog/1.png",
        "drawn/dog/1_2.png",
        "drawn/rain/1/3.png",
        "drawn/2-7.png",
        "drawn/x.png",
    ):
        draw(name, "red")
    heard = heard_of(folder / "sounds")
    found, strangers = pictures_by_sound(folder / "drawn", heard)
    named = {
        f"{heard.labels[i]}/{heard.files[i].stem}": sorted(
            p.relative_to(folder / "drawn").as_posix() for p in own
        )
        for i, own in found.items()
    }
    assert named == {"dog/1": ["dog/1.png", "dog/1_2.png"], "rain/1": ["rain/1/3.png"], "dog/2": ["2-7.png"]}
    assert strangers == 1
    draw("drawn/1.png", "red")
    with pytest.raises(InputError, match=r"'1\.png' may be of 'dog/1\.wav' or of 'rain/1\.wav'"):
        pictures_by_sound(folder / "drawn", heard)
    draw("others/a.png", "red")
    with pytest.raises(InputError, match="No picture of .*others' is called like a sound"):
        pictures_by_sound(folder / "others", heard)


@pytest.mark.parametrize(
    "sounds, picture, own",
    [
        ("dog/7 dog/7_1", "dog/7.png", "dog/7"), ("dog/7 dog/7_1", "dog/7_1.png", "dog/7_1"),
        ("dog/7 dog/7_1", "7_1_3.png", "dog/7_1"), ("dog/7 dog/7_1", "dog/7-1.png", "dog/7"),
        ("dog/7 dog/7_1", "Dog/7_1/3.PNG", "dog/7_1"), ("dog/7 dog/7_10", "dog/7_1.png", "dog/7"),
        ("dog/7 rain/7_1", "dog/7_1.png", "dog/7"), ("dog/7 rain/7_1", "7_1.png", "rain/7_1"),
        ("dog/bark dog/bark_1", "dog/bark_1.png", "dog/bark_1"), ("dog/bark", "dog/bark_1.png", None),
        ("1/1 1/2", "1/2.png", "1/2"), ("1/1 1/2", "1/1/3.png", "1/1"), ("1/1", "1/2.png", "1/1"),
        ("1/1 1/7", "1/7/3.png", "1/7"), ("dog/7_", "dog/7__2.png", "dog/7_"),
    ],
)  # fmt: skip
def test_the_longest_name_of_a_pictures_class_is_its_sounds(tmp_path, sounds, picture, own):
    files = [Path(f"{sound}.wav") for sound in sounds.split()]
    for name in (picture, f"known/{files[0].stem}.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    found, _ = pictures_by_sound(tmp_path, Heard(files, [file.parent.name for file in files], []))
    assert [files[i] for i, of in found.items() if tmp_path / picture in of] == (
        [Path(f"{own}.wav")] if own else []
    )


@pytest.mark.parametrize(
    "sounds, picture",
    [("dog/7 dog/3", "dog/7/3.png"), ("1/1 1/2", "1/1/2.png"), ("dog/7_1 rain/7_1", "7_1.png")],
)
def test_a_picture_of_a_sounds_name_in_anothers_folder_is_refused(tmp_path, sounds, picture):
    (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(tmp_path / picture)
    files = [Path(f"{sound}.wav") for sound in sounds.split()]
    with pytest.raises(InputError, match=f"'{picture}' may be of .*: call it like one of them alone"):
        pictures_by_sound(tmp_path, Heard(files, [file.parent.name for file in files], []))


def test_many_pictures_find_their_sounds_soon(tmp_path):
    """Looking at each sound for each picture takes many times as long."""
    for number in range(1500):
        (tmp_path / f"clip_{number}_1.png").touch()
    files = [Path(f"dog/clip_{number}.wav") for number in range(1500)]
    began = time.process_time()
    found, strangers = pictures_by_sound(tmp_path, Heard(files, ["dog"] * 1500, ["dog"]))
    assert len(found) == 1500 and not strangers and time.process_time() - began < 5


def test_figures_are_means_over_sounds_by_hand(world):
    folder, draw = world
    # Of dog/1 (red) one picture of two is right; rain/1 (blue) has one, which is right.
    for name, colour in (("dog/1.png", "red"), ("dog/1_2.png", "blue"), ("rain/1.png", "blue")):
        draw(f"drawn/{name}", colour)
    for name, colour in (("dog/1.png", "red"), ("dog/2.png", "green"), ("rain/1.png", "blue")):
        draw(f"frames/{name}", colour)
    heard = heard_of(folder / "sounds")
    drawn, _ = pictures_by_sound(folder / "drawn", heard)
    figures = measure(drawn, {"x": DrawnScores(space(), heard, folder / "frames")})
    assert {name: (f.value, f.sounds) for name, f in figures.items()} == {
        # A picture that is not like its sound is as like to another: a tie counts against it.
        name: (pytest.approx((0.5 + 1) / 2), 2)
        for name in ("AIS (x)", "AIC (x)", "IIS (x)")
    }
    low, high = figures["AIC (x)"].interval
    # Of two sounds it is wider than what a share can be.
    assert (low, high) == (0, 1)
    # One sound alone has no interval over sounds; where all of several are alike, Student's has no width.
    alone = measure({0: drawn[0]}, {"x": DrawnScores(space(), heard)})
    assert alone["AIC (x)"].interval is None
    draw("drawn/dog/1_2.png", "red")
    low, high = measure(drawn, {"x": DrawnScores(space(), heard)})["AIC (x)"].interval
    assert (round(low, 2), high) == (0.34, 1)
    without = measure(drawn, {"x": DrawnScores(space(), heard)})
    assert set(without) == {"AIS (x)", "AIC (x)"}
