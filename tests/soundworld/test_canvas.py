"""What is drawn where on a canvas."""

import numpy as np
import pytest

from aai.soundworld.canvas import UNITS, Canvas

RED = (255, 0, 0)


def drawn(shape: str, *arguments) -> np.ndarray:
    """The alpha [128, 128] of one red shape; its colour is checked."""
    canvas = Canvas()
    getattr(canvas, shape)(*arguments, RED)
    pixels = canvas.pixels(UNITS)
    assert np.array_equal(pixels[..., 0], pixels[..., 3] > 0) and not pixels[..., 1:3].any()
    return pixels[..., 3]


def test_a_new_canvas_is_transparent():
    assert not Canvas().pixels(UNITS).any()
    assert Canvas().pixels(64).shape == (64, 64, 4)


def test_a_box_covers_its_corners():
    alpha = drawn("box", 10, 20, 40, 30)
    rows, columns = np.nonzero(alpha > 0.5)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 29, 10, 39)


@pytest.mark.parametrize(
    ("shape", "arguments", "area"),
    [
        ("ellipse", (64, 64, 20, 10), np.pi * 200),
        ("polygon", ([(0, 0), (60, 0), (0, 60)],), 1800),
        ("line", ([(30, 64), (90, 64)], 6), 60 * 6 + np.pi * 9),
        ("arc", (64, 64, 30, 0, 180, 4), np.pi * 30 * 4 + np.pi * 4),
    ],
)
def test_shapes_have_their_area(shape, arguments, area):
    assert drawn(shape, *arguments).sum() == pytest.approx(area, rel=0.08)


def test_an_arc_is_clockwise_from_the_right():
    alpha = drawn("arc", 64, 64, 30, 0, 90, 4)
    assert alpha[64, 94] > 0.5 and alpha[94, 64] > 0.5
    assert not alpha[:60].any() and not alpha[:, :60].any()


def test_another_size_shows_the_same():
    canvas = Canvas()
    canvas.ellipse(40, 70, 20, 30, RED)
    whole, half = canvas.pixels(UNITS), canvas.pixels(UNITS // 2)
    alpha = whole[..., 3].reshape(64, 2, 64, 2).mean((1, 3))
    np.testing.assert_allclose(half[..., 3], alpha, atol=2 / 255)
