"""The clips of a data set: each has its own sound, its own pictures and its own name."""

import math
import os

import pytest
import torch
from PIL import Image

from aai import audio
from aai.data.clip_writer import PrepareSettings
from aai.data.clips import scan
from aai.data.listing import find
from aai.data.prepare import prepare
from aai.errors import InputError

SHORT = PrepareSettings(seconds=1.0, frames=8, keep=4)


@pytest.mark.parametrize(
    "names",
    ["dog/001.wav cat/001.wav", "dog\\001.wav cat\\001.wav", "dog/001 cat/001", "./dog/001 ./cat/001.WAV",
     "old/place/dog/001.flac old/place/cat/001.wav", "C:\\set\\dog\\001.wav C:\\set\\cat\\001.wav"],
)  # fmt: skip
def test_a_label_gets_the_sound_and_the_picture_of_its_own_folder(tmp_path, names, greys, lay_real, pitch):
    source = lay_real(tmp_path / "source", {"cat/001": 500, "dog/001": 1500})
    dog, cat = names.split()
    (source / "list.csv").write_text(f"path,label\n{dog},dog\n{cat},cat\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT)
    assert made.labels == {"cat": 1, "dog": 1} and not made.bad
    clips = scan(tmp_path / "set")
    assert [(clip.label, pitch(clip), *greys(clip)) for clip in clips] == [
        ("dog", 1500, pytest.approx(150, abs=2)),
        ("cat", 500, pytest.approx(50, abs=2)),
    ]
    assert len({clip.id for clip in clips}) == 2


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_a_list_names_files_behind_links(tmp_path, lay_real):
    lay_real(tmp_path / "disk", {"001": 500})
    source = lay_real(tmp_path / "source", {"cat/001": 1500})
    (source / "dog").symlink_to(tmp_path / "disk")
    (source / "list.csv").write_text("path,label\ndog/001.wav,dog\ncat/001.wav,cat\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT)
    assert made.labels == {"cat": 1, "dog": 1} and not made.bad


def test_every_clip_keeps_a_folder_of_its_own(tmp_path, lay):
    """Names that are one after cleaning, after cutting, or on a disk that is blind to case."""
    long = "x" * 160
    names = ["dog/001", "dog_001", "abc", "ABC", f"{long}1", f"{long}2", "con", "plain"]
    source = lay(tmp_path / "list", *(f"{name}.wav" for name in names))
    (source / "list.csv").write_text(
        "path,label\n" + "".join(f"{name}.wav,{n}\n" for n, name in enumerate(names)), encoding="utf-8"
    )
    items = find(source)
    assert [item.why for item in items] == [""] * len(names)
    ids = [item.id for item in items]
    assert len({id.casefold() for id in ids}) == len(names) and max(map(len, ids)) <= 150
    assert ids[-1] == "plain" and not {"con", "dog_001", "abc", "ABC"} & set(ids)
    # The names do not hang on the order.
    lines = (source / "list.csv").read_text(encoding="utf-8").splitlines()
    (source / "list.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]), encoding="utf-8")
    assert [item.id for item in find(source)] == ids[::-1]
    classes = lay(tmp_path / "classes", "a_b/c.wav", "a/b_c.wav", "e/f.wav", "e/f.mp3", f"e/{long}1.wav")
    lay(classes, f"e/{long}2.wav", "e/ü" + "語" * 60 + ".wav")
    items = find(classes)
    assert len({item.id for item in items}) == 7 and not any(item.why for item in items)
    assert max(len(item.id.encode()) for item in items) <= 210
    assert len({clip.id for clip in scan(lay(classes, "a/p.jpg", "a_b/p.jpg", "e/p.jpg"))}) == 7


def test_clips_of_one_cleaned_name_are_made_each_of_its_own_sound(tmp_path, lay_real, pitch):
    source = lay_real(tmp_path / "source", {"dog/001": 500, "dog_001": 1500})
    (source / "list.csv").write_text("path,label\ndog/001.wav,low\ndog_001.wav,high\n", encoding="utf-8")
    prepare(source, tmp_path / "set", SHORT)
    assert [(clip.label, pitch(clip)) for clip in scan(tmp_path / "set")] == [("low", 500), ("high", 1500)]


def test_folders_of_splits_are_splits(tmp_path, lay, lay_real, pitch):
    pitches = {"train/low/1": 500, "train/high/1": 1500, "test/low/1": 600, "test/high/1": 1600}
    prepare(lay_real(tmp_path / "source", pitches), tmp_path / "set", SHORT)
    clips = scan(tmp_path / "set")
    assert {(clip.split, clip.label): pitch(clip) for clip in clips} == {
        ("train", "low"): 500, ("train", "high"): 1500, ("test", "low"): 600, ("test", "high"): 1600,
    }  # fmt: skip
    for kind, names in (("split", ("train", "test")), ("fold", ("fold1", "fold2"))):
        source = lay(tmp_path / kind, *(f"{name}/1.wav" for name in names))
        with pytest.raises(InputError, match=f"is a {kind} and no class"):
            find(source)


def test_a_start_in_minutes_is_where_the_clip_begins_and_one_that_is_none_is_told(tmp_path, pitch):
    """Second k of the recording is a tone of 100 + 10 k Hz."""
    source = tmp_path / "source"
    source.mkdir()
    hertz = (100 + 10 * torch.arange(100)).repeat_interleave(8000)
    wave = 0.4 * torch.sin(2 * math.pi * hertz * torch.arange(800_000) / 8000)[None]
    audio.save(audio.Sound(wave, 8000), source / "a.wav")
    Image.new("RGB", (8, 8)).save(source / "a.png")
    listed = "id,start,end,label\na,1:30,,late\na,abc,,dog\na,def,,cat\na,2,ghi,end\na,0,1,first\n"
    (source / "list.csv").write_text(listed, encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT)
    assert [reason for _, _, reason in made.bad] == [
        "its start 'abc' is no number of seconds",
        "its start 'def' is no number of seconds",
        "its end 'ghi' is no number of seconds",
    ]
    assert {clip.label: pitch(clip) for clip in scan(tmp_path / "set")} == {"late": 1000, "first": 100}


def test_labels_with_commas_are_allowed_a_line_each(tmp_path, lay_real):
    source = lay_real(tmp_path / "source", {"male speech, man speaking/1": 500, "dog/1": 600, "cat/1": 700})
    (tmp_path / "labels.txt").write_text("male speech, man speaking\ndog\n", encoding="utf-8")
    made = prepare(source, tmp_path / "set", SHORT, labels=tmp_path / "labels.txt")
    assert made.labels == {"dog": 1, "male speech, man speaking": 1}
    assert [reason for _, _, reason in made.bad] == ["its label is not in 'labels.txt'"]
