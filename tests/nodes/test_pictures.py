"""Pictures on their way in and out of nodes."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.testing import assert_close


@pytest.fixture
def part(pack):
    return pack.part("nodes.pictures")


def test_the_middle_square_is_taken_whatever_the_channels(part):
    wide = torch.zeros(1, 40, 60, 3)
    wide[:, :, 10:50, 1] = 1
    assert torch.equal(
        part.square(wide, 40), torch.tensor([0.0, 1, 0])[None, :, None, None].expand(1, 3, 40, 40)
    )
    grey = torch.full((2, 64, 64, 1), 0.25)
    assert_close(part.square(grey, 32), torch.full((2, 3, 32, 32), 0.25))


def test_transparency_lies_on_white(part):
    pixels = torch.zeros(1, 32, 32, 4)
    pixels[:, :16, :, 3] = 1
    squared = part.square(pixels, 32)
    assert (squared[:, :, :16] == 0).all() and (squared[:, :, 16:] == 1).all()


@pytest.mark.parametrize(
    ("shape", "sentence"), [((0, 64, 64, 3), "no reference pictures"), ((1, 31, 90, 3), "90 x 31 pixels")]
)
def test_what_shows_nothing_is_refused(pack, part, shape, sentence):
    with pytest.raises(pack.part("aai.errors").InputError, match=sentence):
        part.square(torch.zeros(shape), 32)


def test_a_picture_becomes_an_image(part):
    image = part.as_image(Image.new("L", (5, 3), 255))
    assert image.shape == (1, 3, 5, 3) and image.dtype == torch.float32 and (image == 1).all()


def test_a_curve_is_drawn_for_the_output_and_told_to_the_view(part):
    image, shown = part.draw_curve([0.5, 0.25], 4, begun=2)
    assert image.shape == (1, 256, 512, 3)
    (curve,) = shown["curve"]
    assert (curve["begun"], curve["step"], curve["total"]) == (2, 4, 4) and curve["losses"] == [0.5, 0.25]
