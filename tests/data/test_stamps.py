"""Stamps of clips: what changes them, and which clips of earlier runs stay."""

import os

import pytest

from aai.data.listing import MISSING, Item
from aai.data.stamps import stamp, with_gone


@pytest.fixture
def item(tmp_path, lay):
    lay(tmp_path, "dog/1.wav", "dog/1.jpg", "dog/1_2.jpg", "dog/1.mp4")
    return Item("dog_1", "dog", "", tmp_path / "dog/1.wav", pictures=(tmp_path / "dog/1.jpg",))


def test_a_stamp_tells_another_file_another_part_and_other_pictures(tmp_path, item):
    def of(**changes):
        return stamp(Item(**{**vars(item), **changes}), tmp_path, 4)

    own = of()
    assert own.startswith("dog/1.wav 0 ") and own == of()
    other = tmp_path / "dog/1_2.jpg"
    changed = [of(start=1.0), of(seconds=2.0), of(pictures=(other,)), of(pictures=(*item.pictures, other))]
    for path in (item.pictures[0], item.media):
        os.utime(path, ns=(0, 7))
        changed.append(of())
    item.media.write_bytes(b"longer")
    os.utime(item.media, ns=(0, 7))
    changed.append(of())
    assert len({own, *changed}) == 8
    assert of(label="cat", split="test", id="x") == of()
    # A video has pictures of its own.
    assert of(media=None) == of(pictures=()) == of(media=tmp_path / "gone.wav") == ""
    assert of(media=tmp_path / "dog/1.mp4", pictures=())


def test_only_pictures_that_are_looked_at_are_stamped(tmp_path, item):
    pictures = tuple(tmp_path / f"{i}.jpg" for i in range(8))
    for path in pictures:
        path.touch()
    clip = Item("a", "dog", "", item.media, pictures=pictures)
    own = stamp(clip, tmp_path, 2)
    pictures[0].write_bytes(b"x")
    assert stamp(clip, tmp_path, 2) == own
    pictures[2].write_bytes(b"x")
    assert stamp(clip, tmp_path, 2) != own


def row(id, source, label="dog"):
    return {"id": id, "label": label, "split": "", **({"source": source} if source else {})}


def test_gone_clips_stand_where_they_stood():
    items = [Item("a_2", "a"), Item("b_1", "b"), Item("b_2", "b")]
    rows = {id: row(id, f"{id.replace('_', '/')}.wav 9 7 0") for id in ("a_1", "a_2", "a_3", "b_1")}
    rows["c_1"] = row("c_1", None)
    stamps = {"a_2": "a/2.wav 9 7 0", "b_1": "b/1.wav 9 7 0", "b_2": "b/2.wav 9 7 0"}
    found = with_gone(items, rows, stamps)
    assert [item.id for item in found] == ["a_1", "a_2", "a_3", "b_1", "c_1", "b_2"]
    assert [item.id for item in found if item.why == MISSING] == ["a_1", "a_3", "c_1"] and len(rows) == 5


@pytest.mark.parametrize(
    "id, source, stays",
    [
        ("old_5", "old/5.wav 9 7 0", True),
        ("old_5", 7, True),
        ("old_5", "", True),
        # The file of another clip, which was made before, may be alike.
        ("old_1", "old/1.wav 9 7 0", True),
        ("old_2", "old/2.wav 9 7 0", False),
        ("old_2", "old/2.wav 9 8 0", True),
        ("b_2-0a1b2c3d", "b/2.wav 9 8 0", False),
        ("B_2", "B/2.mp3 9 8 0", False),
    ],
)
def test_clips_that_are_called_otherwise_now_do_not_stay(id, source, stays):
    items = [Item("b_1", "b"), Item("b_2", "b")]
    rows = {"b_1": row("b_1", "b/1.wav 9 7 0"), id: row(id, source)}
    stamps = {"b_1": "b/1.wav 9 7 0", "b_2": "b/2.wav 9 7 0"}
    assert (len(with_gone(items, rows, stamps)) == 3) is stays
    assert (id in rows) is stays
    if stays:
        assert len(with_gone(items, rows, stamps, {"cat"})) == 2 and id not in rows
