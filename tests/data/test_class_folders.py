"""Folders of classes, and which of them are splits and folds."""

import os

import pytest

from aai.data.clips import scan
from aai.errors import InputError


@pytest.mark.parametrize("train, test", [("train", "test"), ("Training", "testing"), ("train", "Validation")])
def test_folders_of_splits_are_splits_and_no_labels(tmp_path, train, test, lay):
    folder = lay(
        tmp_path,
        *(f"{s}/{c}/1.{e}" for s in (train, test) for c in ("dog", "sea_waves") for e in ("wav", "jpg")),
    )
    lay(folder, f"{test}/dog/2.wav", "meta/notes.txt")
    clips = scan(folder)
    other = {"testing": "test", "Validation": "val"}.get(test, test)
    assert sorted((clip.split, clip.label) for clip in clips) == sorted(
        [("train", "dog"), ("train", "sea waves"), (other, "dog"), (other, "dog"), (other, "sea waves")]
    )
    assert len({clip.id for clip in clips}) == 5
    assert {clip.sound.path.parent.parent.name for clip in scan(folder, other)} == {test}


def test_splits_within_classes_are_splits(tmp_path, lay):
    lay(
        tmp_path,
        *(f"{c}/{s}/1.{e}" for s in ("train", "test") for c in ("dog", "cat") for e in ("wav", "jpg")),
    )
    assert [(clip.label, clip.split) for clip in scan(tmp_path)] == [
        ("cat", "test"), ("cat", "train"), ("dog", "test"), ("dog", "train"),
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_a_linked_part_of_a_class_is_of_it_once(tmp_path, lay):
    lay(tmp_path / "disk", "monday/2.wav", "monday/2.jpg")
    folder = lay(tmp_path / "set", "dog/1.wav", "dog/1.jpg", "cat/3.wav", "cat/3.jpg")
    (folder / "dog" / "away").symlink_to(tmp_path / "disk")
    (folder / "dog" / "again").symlink_to(tmp_path / "disk")
    (folder / "dog" / "all").symlink_to(folder)
    (tmp_path / "disk" / "back").symlink_to(folder / "dog")
    found = [(clip.label, clip.sound.path.name) for clip in scan(folder)]
    assert found == [("cat", "3.wav"), ("dog", "1.wav"), ("dog", "2.wav")]


def test_a_train_among_other_classes_is_a_train(tmp_path, lay):
    lay(tmp_path, *(f"{c}/1.{e}" for c in ("dog", "train", "siren") for e in ("wav", "jpg")))
    assert [(clip.label, clip.split) for clip in scan(tmp_path)] == [
        ("dog", ""),
        ("siren", ""),
        ("train", ""),
    ]
    inner = lay(tmp_path / "in", *(f"test/{c}/1.{e}" for c in ("dog", "train") for e in ("wav", "jpg")))
    assert [(clip.label, clip.split) for clip in scan(inner)] == [("dog", "test"), ("train", "test")]


@pytest.mark.parametrize(
    "names", ["train test", "train val", "fold1 fold2", "test dog", "train test dog", "fold3 dog"]
)
def test_splits_and_folds_without_classes_are_refused(tmp_path, names, lay):
    lay(tmp_path, *(f"{name}/1.{e}" for name in names.split() for e in ("wav", "jpg")))
    kind = "fold" if "fold" in names else "split"
    with pytest.raises(InputError, match=f"is a {kind} and no class"):
        scan(tmp_path)


def test_folders_within_a_class_belong_to_it(tmp_path, lay):
    """As of days; a part without pictures of its own has the class's."""
    names = [
        "rain/1.wav",
        "rain/1.jpg",
        "rain/day 2/1.wav",
        "rain/day 2/evening/2.wav",
        "rain/day 2/evening/2.jpg",
    ]
    lay(tmp_path, *names, "wind/1.wav", "wind/1.jpg", "notes/read me.txt")
    clips = scan(tmp_path)
    assert [(clip.id, clip.label) for clip in clips] == [
        ("rain/1", "rain"),
        ("rain/day 2/1", "rain"),
        ("rain/day 2/evening/2", "rain"),
        ("wind/1", "wind"),
    ]
    assert [clip.pictures[0].path.parent.name for clip in clips] == ["rain", "rain", "evening", "wind"]


def test_a_clips_pictures_lie_in_order_of_time(tmp_path, lay):
    lay(tmp_path, "dog/7.wav", "rain/1.wav", "rain/1.jpg", *(f"dog/7_{i}.jpg" for i in range(12)))
    dog = scan(tmp_path)[0]
    assert [file.path.stem for file in dog.pictures] == [f"7_{i}" for i in range(12)]
    assert dog.pictures[dog.middle].path.stem == "7_6"


@pytest.mark.parametrize("above", ["", "train/"])
def test_a_folder_without_sounds_whose_folders_have_some_is_told(tmp_path, lay, above):
    lay(tmp_path, *(f"{above}{name}/1.{e}" for name in ("rain", "animals/dog") for e in ("wav", "jpg")))
    with pytest.raises(InputError, match="animals' has sounds in 'dog' and none directly in it: put them"):
        scan(tmp_path)


def test_labels_that_differ_in_capitals_alone_are_told(tmp_path, lay):
    lay(tmp_path, *(f"{name}/1.{e}" for name in ("a_dog", "A dog", "rain") for e in ("wav", "jpg")))
    with pytest.raises(InputError, match="the labels 'A dog' and 'a dog', which are one to a text encoder"):
        scan(tmp_path)
