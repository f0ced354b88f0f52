"""Which of ESC-10's recordings are the world's, and which are strangers."""

from __future__ import annotations

import pytest

from aai.soundworld import esc10


@pytest.fixture
def folder(tmp_path):
    for name in (
        *("dog_bark/1-2-A.ogg", "dog_bark/4-1-B.ogg", "dog_bark/4-1-A.ogg", "dog_bark/notes.txt"),
        *("rain/4-9-A.ogg", "rain/2-3-A.ogg"),
        *("cat/1-1-A.ogg", "cat/2-1-A.ogg", "cat/4-1-A.ogg", "baby_cry/1-7-A.ogg"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_recordings_are_those_of_the_folds_and_of_known_classes(folder):
    named = [(event, path.name) for event, path in esc10.recordings(folder, (1, 4))]
    assert named == [
        *(("rain", "4-9-A.ogg"),),
        *(("dog", "1-2-A.ogg"), ("dog", "4-1-A.ogg"), ("dog", "4-1-B.ogg")),
    ]
    assert list(esc10.recordings(folder, (3,))) == []


def test_strangers_are_the_classes_that_the_world_lacks(folder):
    assert [path.parent.name for path in esc10.strangers(folder, 1)] == ["baby_cry", "cat"]
