"""Which clips are of one recording, by the names of the public sets."""

from pathlib import Path

import pytest

from aai.align.recordings import groups_of, recording_of
from aai.data.clips import Clip, File, from_row


@pytest.mark.parametrize(
    ("id", "recording"),
    [
        ("dog_bark/100032-3-0-7", "100032"),
        ("fold5/dog_bark/100032-3-0-7", "100032"),
        ("fold5_100032-3-0-7", "100032"),
        ("dog/1-100032-A-0", "100032"),
        ("sea_waves/4-28135-B", "28135"),
        ("rain/---g-f_I2yQ_000001", "---g-f_I2yQ"),
        ("--PJHxphWEs_30000_40000", "--PJHxphWEs"),
        ("Y--PJHxphWEs_30.000_40.000", "--PJHxphWEs"),
        ("train_dog_AbcdEfGhijk_12", "AbcdEfGhijk"),
        ("rain/7", None),
        ("rain/2024-08-20-13", None),
        ("rain/rain_000001", None),
        ("thunder/thunderclap_3", None),
        ("dog/mysound_dog_12", None),
        ("dog/MyRecording_12", None),
        ("dog/1-2", None),
        ("AbcdEfGhijk_000012-1a2b3c4d", "AbcdEfGhijk"),
    ],
)
def test_names_of_public_sets_begin_with_the_recording(id, recording):
    assert recording_of(id) == recording


def clip(id, split=""):
    return Clip(id, "dog", File(Path(id)), (), split)


def test_folds_are_groups_where_there_are_several():
    folds = [clip(f"fold{n}/dog/{i}", f"fold{n}") for n in (1, 2) for i in range(2)]
    assert groups_of(folds) == ["fold1", "fold1", "fold2", "fold2"]
    assert len(set(groups_of(folds[:2]))) == 2
    names = [clip(f"dog/{i}", split) for i in range(2) for split in ("train", "test")]
    assert len(set(groups_of(names))) == 4
    assert groups_of([clip("dog/5-3-0-1"), clip("cat/5-2-0-1"), clip("dog/6-3-0-1")]) == ["5", "5", "6"]


def test_what_was_cut_from_one_file_is_of_one_recording():
    """As `data prepare` cuts it, and notes it in the manifest."""
    row = {"id": "field_000018", "label": "dog", "split": "", "sound": "1.flac", "pictures": ["1.jpg"]}
    cut = [
        from_row({**row, "id": f"{name}_{n}", "source": f"{name} 1.wav 100 17 abcd"}, Path())
        for name in ("field", "street")
        for n in range(2)
    ]
    assert [clip.recording for clip in cut] == ["field 1.wav"] * 2 + ["street 1.wav"] * 2
    assert groups_of(cut) == ["field 1.wav"] * 2 + ["street 1.wav"] * 2
    assert from_row(row, Path()).recording == ""
