from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from aai.adapt.library import Library, index, load_pictures, picture_paths, rank, references
from aai.errors import InputError


class Colours:
    """Sees a picture as its mean colour."""

    def embed_images(self, images):
        assert images.shape[1:] == (3, 224, 224) and images.min() >= 0 and images.max() <= 1
        return images.mean((2, 3)) * 5


def flat(path, colour, size=(20, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    flat(tmp_path / "red.png", (255, 0, 0))
    flat(tmp_path / "deep" / "green.bmp", (0, 255, 0), (9, 40))
    flat(tmp_path / "blue.JPG", (0, 0, 255))
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path


def test_a_folder_is_ranked_by_cosine(folder, caplog):
    seen = []
    library = index(folder, Colours(), batch=2, callback=lambda done, total: seen.append((done, total)))
    assert [p.name for p in library.paths] == ["blue.JPG", "green.bmp", "red.png"]
    assert "broken.png" in caplog.text and seen == [(2, 4), (4, 4)]
    assert_close(library.features.norm(dim=1), torch.ones(3))
    found = references(torch.tensor([0.5, 8.0, 0.1]), library, 2)
    assert [r.path.name for r in found] == ["green.bmp", "red.png"]
    assert found[0].score == pytest.approx(8 / math.sqrt(0.25 + 64 + 0.01), abs=1e-2)


def test_rank_by_hand():
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0], [6.0, 8.0]])
    rows, scores = rank(torch.tensor([0.0, 9.0]), features, 3)
    assert rows == [2, 1, 3] and scores == pytest.approx([1.0, 0.8, 0.8])
    assert rank(torch.tensor([1.0, 0.0]), features, 99)[0] == [0, 1, 3, 2]
    with pytest.raises(InputError, match="3 numbers.*2"):
        rank(torch.ones(3), features, 1)
    with pytest.raises(InputError, match="0 reference pictures"):
        references(torch.ones(2), Library((), features), 0)


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        picture_paths(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        picture_paths(tmp_path / "nowhere")
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(InputError, match="None of the 1 pictures"):
        index(tmp_path, Colours())
    with pytest.raises(InputError, match="no reference pictures"):
        load_pictures([], 16)


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
