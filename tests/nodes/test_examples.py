"""The templates' sounds and picture, as the pack places them in the input folder."""

from __future__ import annotations

import pytest


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
