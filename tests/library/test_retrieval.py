from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

from aai.errors import InputError
from aai.library.nearest import top
from aai.library.retrieval import Library, clip_of, is_own, load_pictures, rank, references, retrieve


class Plain:
    """A tower in whose space sounds lie already."""

    name, key, image_size = "plain", "0", 8

    def query(self, f_a):
        return F.normalize(f_a, dim=-1)


def library(names, features) -> Library:
    return Library(Plain(), Path("pictures"), names, F.normalize(torch.tensor(features), dim=-1))


def test_the_nearest_are_found_best_first():
    pictures = library(["red.png", "deep/green.png", "blue.png"], [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    found = references(torch.tensor([0.5, 8.0, 0.1]), pictures, 2)
    assert [r.path for r in found] == [Path("pictures/deep/green.png"), Path("pictures/red.png")]
    assert found[0].score == pytest.approx(8 / math.sqrt(0.25 + 64 + 0.01))


@pytest.mark.parametrize(
    ("picture", "sound", "own"),
    [
        ("7.jpg", "7.wav", True),
        ("dog/7.jpg", "clips/dog/7.wav", True),
        ("7_03.jpg", "7.wav", True),
        ("7-03.jpg", "7.wav", True),
        ("frames/7/03.jpg", "7.wav", True),
        ("70.jpg", "7.wav", False),
        ("8_7.jpg", "7.wav", False),
        ("dQw4w9WgXcQ_000030/5.jpg", "DQW4W9WGXCQ_000030.flac", True),
        ("rain.jpg", "rain.wav", True),
        ("rain_1.jpg", "rain.wav", False),
        ("rain/1.jpg", "rain.wav", False),
        ("a/b.jpg", "", False),
        ("7_1.jpg", "C:\\sounds\\7.wav", True),
    ],
)
def test_whose_picture_it_is(picture, sound, own):
    assert is_own(picture, sound) is own


def test_a_sounds_own_clip_is_left_out():
    names = [f"7_{i:03}.jpg" for i in range(300)] + ["rain.jpg", "dog.jpg"]
    features = [[1.0, i / 1000] for i in range(300)] + [[1.0, 1.0], [0.0, 1.0]]
    pictures = library(names, features)
    f_a = torch.tensor([1.0, 0.0])
    assert [r.path.name for r in references(f_a, pictures, 2)] == ["7_000.jpg", "7_001.jpg"]
    found = references(f_a, pictures, 4, "7.wav")
    assert [r.path.name for r in found] == ["rain.jpg", "dog.jpg"]
    assert found[0].score == pytest.approx(math.sqrt(0.5))
    with pytest.raises(InputError, match="Every picture in 'pictures' belongs to the sound's own clip"):
        references(f_a, library(["7_1.jpg"], [[1.0, 0.0]]), 1, "7.wav")


@pytest.mark.parametrize(
    ("sound", "clip"),
    [("thunder.wav", ""), ("a/rain1.wav", "rain1"), ("C:\\2\\thunder.wav", ""), ("", ""), ("7", "7")],
)
def test_only_a_name_with_a_number_tells_a_clip(sound, clip):
    assert clip_of(sound) == clip


def test_what_is_left_out_is_said():
    names = ["7_1.jpg", "7.jpg", "rain.jpg", "dog.jpg", "7_2.jpg"]
    pictures = library(names, [[1.0, 0.1], [1.0, 0.0], [1.0, 1.0], [0.1, 1.0], [0.0, 1.0]])
    found = retrieve(torch.tensor([1.0, 0.0]), pictures, 2, "7")
    assert [r.path.name for r in found.references] == ["rain.jpg", "dog.jpg"]
    # The third would not have been chosen in any case.
    assert found.left_out == ["7.jpg", "7_1.jpg"]
    assert found.note.startswith("2 pictures ('7.jpg' for one) are left out as the sound's own clip '7'")
    assert retrieve(torch.tensor([1.0, 0.0]), pictures, 2, "8").note == ""
    odd = retrieve(torch.ones(2), library(["7-caf\udce9.jpg", "a.jpg"], [[1.0, 1.0], [1.0, 0.0]]), 1, "7")
    assert r"'7-caf\udce9.jpg' is left out" in odd.note


def test_rank_by_hand():
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.6, 0.8]])
    rows, scores = rank(torch.tensor([0.0, 9.0]), features, 3)
    assert rows == [2, 1, 3] and scores == pytest.approx([1.0, 0.8, 0.8])
    assert rank(torch.tensor([1.0, 0.0]), features, 99)[0] == [0, 1, 3, 2]
    with pytest.raises(InputError, match="3 numbers.*2"):
        rank(torch.ones(3), features, 1)
    with pytest.raises(InputError, match="0 reference pictures"):
        references(torch.ones(2), library(["a"], [[1.0, 0.0]]), 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(InputError, match="The sound's embedding holds values that are not numbers"):
        references(torch.tensor([bad, 1.0]), library(["a", "b"], [[1.0, 0.0], [0.0, 1.0]]))
    features = F.normalize(torch.randn(500, 2), dim=-1)
    features[77] = bad
    pictures = Library(Plain(), Path("pictures"), [f"{i}" for i in range(500)], features, Path("index"))
    with pytest.raises(InputError, match="'index' holds features that are not numbers: delete the index"):
        references(torch.ones(2), pictures)
    with pytest.raises(InputError, match="features that are not numbers"):
        rank(torch.ones(2), features, 3)


def test_top_keeps_the_order_of_equals():
    values = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    rows, found = top(values, 4)
    assert rows.tolist() == [1, 3, 2, 4] and found.tolist() == [3, 3, 2, 2]
    assert top(torch.empty(0), 3)[0].tolist() == []


def test_the_middle_square_is_taken(tmp_path):
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, :10] = (255, 0, 0)
    image[:, 10:20] = (0, 255, 0)
    image[:, 20:] = (0, 0, 255)
    Image.fromarray(image).save(tmp_path / "wide.png")
    Image.fromarray(image.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    images = load_pictures([tmp_path / "wide.png", tmp_path / "tall.png"], 10)
    assert images.shape == (2, 3, 10, 10) and images.dtype == torch.float32
    assert_close(images, torch.tensor([0.0, 1.0, 0.0])[None, :, None, None].expand(2, 3, 10, 10))
    with pytest.raises(InputError, match="no reference pictures"):
        load_pictures([], 16)
