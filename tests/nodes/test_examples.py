"""The templates: their size, and their sounds and picture, which the pack places in the input folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TEMPLATES = sorted((Path(__file__).parents[2] / "example_workflows").glob("*.json"))
LAPTOP, DESKTOP = (1600, 900), (1920, 1080)
FITTED = 0.75
"""The share of the window that a template fills as the front end opens it."""
READABLE = 8 / 14
"""The scale below which its canvas leaves text out."""
TITLE = 30


@pytest.fixture
def examples(pack, tmp_path, monkeypatch):
    """The module, on an input folder that is not there yet: `tmp_path / "input"`."""
    examples = pack.part("nodes.examples")
    monkeypatch.setattr(examples.folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    return examples


def test_what_is_missing_is_placed_and_what_is_there_is_left_alone(examples, tmp_path):
    examples.place()
    placed = {path.name: path.read_bytes() for path in (tmp_path / "input").iterdir()}
    assert placed == {path.name: path.read_bytes() for path in examples.FOLDER.iterdir()} and placed
    first, second, *_ = sorted(placed)
    (tmp_path / "input" / first).write_bytes(b"the user's own")
    (tmp_path / "input" / second).unlink()
    examples.place()
    assert (tmp_path / "input" / first).read_bytes() == b"the user's own"
    assert (tmp_path / "input" / second).read_bytes() == placed[second]


def test_an_input_folder_that_takes_nothing_does_not_stop_the_pack(examples, tmp_path, caplog):
    (tmp_path / "input").write_bytes(b"a file where the folder belongs")
    examples.place()
    assert "was not placed in the input folder" in caplog.text


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_can_be_read_as_it_opens(path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    boxes = [
        (x, y - TITLE, w, h + TITLE) for (x, y), (w, h) in ((n["pos"], n["size"]) for n in workflow["nodes"])
    ]
    boxes += [tuple(group["bounding"]) for group in workflow["groups"]]
    width = max(x + w for x, _, w, _ in boxes) - min(x for x, *_ in boxes)
    height = max(y + h for _, y, _, h in boxes) - min(y for _, y, *_ in boxes)
    window = DESKTOP if path.stem == "sound_film_wan" else LAPTOP
    assert FITTED * min(window[0] / width, window[1] / height) >= READABLE
