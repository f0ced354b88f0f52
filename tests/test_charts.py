from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from aai.charts import PAPER, Cell, Line, Row, bars, contact_sheet, curve_points, fonts, plot, save
from aai.errors import InputError


def red(count=1):
    return [torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 10, 10)] * count


def reds(picture) -> np.ndarray:
    pixels = np.asarray(picture).astype(int)
    return (pixels == (255, 0, 0)).all(-1)


def test_a_sheet_shows_every_picture_and_no_text_runs_over():
    told = "a caption far too long for its two small pictures"
    rows = [Row("one", [Cell(red(2), told), Cell(red())], "note"), Row("two", [Cell(red()), Cell([])])]
    sheet = contact_sheet("Title", "subtitle", rows, ["first", "second"], side=40)
    assert reds(sheet).sum() == 4 * 40 * 40
    columns = reds(sheet).any(0).nonzero()[0]
    bare = contact_sheet("Title", "subtitle", [Row("", [Cell(red())])], side=40)
    assert reds(bare).any(0).nonzero()[0][0] == 20 < columns[0]
    assert (np.asarray(sheet)[:, -5:] == PAPER).all()


def test_a_plot_rises_where_its_values_do():
    line = Line("a", [(100, 0.1, 0.0, 0.2), (1000, 0.9, 0.8, 1.0)])
    picture = plot("T", "s", [line], x_label="x", y_label="y", log_x=True, y_range=(0, 1))
    dark = (np.abs(np.asarray(picture).astype(int) - (64, 84, 178)).sum(-1) < 12)[:, :540]
    rows, columns = dark.nonzero()
    assert rows[columns < 120].mean() > rows[columns > 450].mean() + 100
    flat = plot("T", "s", [Line("a", [(1, 0.5, 0.5, 0.5)])], x_label="x", y_label="y")
    assert flat.size == (720, 440)


def test_bars_are_as_long_as_their_shares():
    picture = bars("T", "s", [("half", 0.5, 0.4, 0.6), ("all", 1.0, 0.9, 1.0)])
    blue = (np.abs(np.asarray(picture).astype(int) - (64, 84, 178)).sum(-1) < 12).sum(1)
    assert blue[84 + 10] == pytest.approx(blue[84 + 34 + 10] / 2, abs=3)


def test_a_label_leaves_its_bar_half_of_the_plot():
    picture = bars("T", "s", [("a condition of very many words " * 9, 1.0, 0.9, 1.0), ("all", 1.0, 0.9, 1.0)])
    blue = (np.abs(np.asarray(picture).astype(int) - (64, 84, 178)).sum(-1) < 12).sum(1)
    assert blue[84 + 10] == blue[84 + 34 + 10] > 200


@pytest.mark.parametrize("letters", ["ДЖ", "雨音", "한국", "éè"])
def test_letters_of_every_script_are_told_apart(letters, caplog):
    one, other = (
        [
            contact_sheet("T", "s", [Row(c, [Cell(red())])]),
            plot("T", "s", [Line(c, [(1, 0.5, 0.5, 0.5)])], x_label="x", y_label="y"),
            bars("T", "s", [(c, 1, 1, 1)]),
        ]
        for c in letters
    )
    if "No font was found" in caplog.text:
        pytest.skip("this system has no font for them")
    assert not any(a.size == b.size and a.tobytes() == b.tobytes() for a, b in zip(one, other))


def test_a_font_stays_pillows_own_where_it_has_the_letters():
    (own,) = fonts((16,), ["heavy rain…", "\u200d \u0301"])
    assert own.getname() == ImageFont.load_default(16).getname()


def test_letters_that_no_font_has_are_told_once(caplog):
    for title in ("one", "other"):
        assert fonts((16,), [title, "\U00013000"])
    assert caplog.text.count("No font was found") == 1 and "'\U00013000'" in caplog.text


def test_a_picture_is_saved_whole_or_not_at_all(tmp_path):
    save(bars("T", "s", [("a", 1, 1, 1)]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
    with pytest.raises(InputError, match="cannot be saved"):
        save(bars("T", "s", [("a", 1, 1, 1)]), tmp_path / "nowhere" / "a.png")


def test_a_curve_is_thinned_to_what_can_be_shown():
    losses = [1 / (i + 1) for i in range(1000)]
    curve = curve_points(losses, 2000)
    assert (curve["step"], curve["total"]) == (1000, 2000)
    assert len(curve["losses"]) == len(curve["means"]) == 240
    assert curve["losses"] == sorted(curve["losses"], reverse=True)
    assert abs(sum(curve["losses"]) / 240 - sum(losses) / 1000) < 2e-3
    short = curve_points([0.5, 0.25], 60)
    assert short["losses"] == [0.5, 0.25] and short["means"][0] == 0.5
