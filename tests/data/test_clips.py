"""Shards from elsewhere, and what is wrong with lists and shards."""

import io
import json
import os
import tarfile

import pytest
import torch
from PIL import Image

from aai import audio
from aai.data.clips import MANIFEST, scan, shard_clips
from aai.errors import InputError


@pytest.fixture
def files(tmp_path):
    """A sound and a picture as bytes."""
    audio.save(audio.Sound(torch.full((1, 1600), 0.25), 16000), tmp_path / "s.wav")
    picture = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(picture, "PNG")
    return (tmp_path / "s.wav").read_bytes(), picture.getvalue()


def write_shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("size", [1 << 80, 1 << 62, 1 << 33, -512])
def test_a_shard_whose_header_states_any_size_is_refused(tmp_path, kind, size):
    member = tarfile.TarInfo("1.wav")
    member.type, member.size = kind, size
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(InputError, match="a.tar' (cannot be read as a shard|holds no clips)"):
        scan(tmp_path)


def test_webdataset_shards_of_other_makers(files, tmp_path):
    """Folders within, labels as text or json, incomplete samples, several shards."""
    sound, picture = files
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shard(
        folder / "b.tar",
        {
            "test/0001.txt": b"heavy rain\n",
            "test/0001.wav": sound,
            "test/0001.frame.png": picture,
            "test/0002.txt": b"no sound",
            "test/0002.png": picture,
        },
    )
    told = json.dumps({"label": "dog", "split": "test"}).encode()
    write_shard(folder / "a.tar", {"7.json": told, "7.wav": sound, "7.0.png": picture, "7.1.png": picture})
    dog, rain = scan(folder)
    assert (dog.id, dog.label, dog.split, len(dog.pictures)) == ("7", "dog", "test", 2)
    assert (rain.id, rain.label, rain.split) == ("0001", "heavy rain", "")
    assert rain.load_sound().waveform.shape == (1, 1600)
    assert torch.equal(dog.load_picture(1), torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 4, 6))
    assert dog.middle == 1


def test_labels_are_read_as_windows_writes_them(files, tmp_path):
    """A mark of UTF-8 before the text, endings in capitals."""
    sound, picture = files
    mark = b"\xef\xbb\xbf"
    told = {
        "0.txt": mark + b"cat",
        "1.TXT": b"rain",
        "2.JSON": b'{"label": "dog"}',
        "3.json": mark + b'{"label": "sea"}',
    }
    members = [
        (f"{name[0]}{end}", data) for name in told for end, data in ((".wav", sound), (".png", picture))
    ]
    write_shard(tmp_path / "a.tar", {**told, **dict(members)})
    assert [clip.label for clip in scan(tmp_path)] == ["cat", "rain", "dog", "sea"]


def test_a_manifest_may_begin_with_a_mark(tmp_path):
    rows = [GOOD, GOOD | {"id": "2", "label": "cat"}]
    (tmp_path / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8-sig")
    assert [clip.label for clip in scan(tmp_path)] == ["dog", "cat"]


def test_clips_of_shards_have_ids_of_their_own(files, tmp_path):
    sound, picture = files

    def shard(name, *keys):
        ends = {".txt": None, ".wav": sound, ".png": picture}
        parts = {f"{key}{end}": data or key[::-1].encode() for key in keys for end, data in ends.items()}
        write_shard(tmp_path / name, parts)

    shard("a.tar", "train/1", "test/1", "train/2", "3", "5")
    assert [clip.id for clip in scan(tmp_path)] == ["train/1", "test/1", "2", "3", "5"]
    assert [clip.id for clip in shard_clips(tmp_path / "a.tar")] == ["train/1", "test/1", "2", "3", "5"]
    shard("b.tar", "train/1", "3", "4", "val/5")
    assert [clip.id for clip in scan(tmp_path)] == [
        *("a.tar/train/1", "test/1", "2", "a.tar/3", "5"),
        *("b.tar/train/1", "b.tar/3", "4", "val/5"),
    ]


def test_what_cannot_be_read_is_told(files, tmp_path):
    sound, picture = files
    with pytest.raises(InputError, match="holds no clips"):
        scan(write_shard(tmp_path / "bare.tar", {"1.wav": sound, "1.png": picture}))
    (tmp_path / "torn.tar").write_bytes(b"no tar at all")
    with pytest.raises(InputError, match="torn.tar.*as a shard"):
        scan(tmp_path / "torn.tar")
    listed = tmp_path / "listed"
    listed.mkdir()
    (listed / MANIFEST).write_text(
        '{"id": "1", "label": "dog", "sound": "1.wav", "pictures": []}\n{"id": \n', encoding="utf-8"
    )
    with pytest.raises(InputError, match="Line 2"):
        scan(listed)
    rows = [{"id": x, "label": x, "sound": f"{x}.wav", "pictures": [f"{x}.png"]} for x in "ab"]
    (listed / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match="a.wav"):
        scan(listed)[0].load_sound()
    with pytest.raises(InputError, match="b.png"):
        scan(listed)[1].load_picture(0)


GOOD = {"id": "1", "label": "dog", "split": "", "sound": "1.wav", "pictures": ["1.png"]}
SHARDED = ["a.tar", "1.wav", 512, 10]


@pytest.mark.parametrize(
    "row",
    [
        *([], None, 7, "text", {}, GOOD | {"id": 3}, GOOD | {"id": ""}, GOOD | {"label": None}),
        *(
            GOOD | {"label": ["dog"]},
            GOOD | {"label": "\ud800"},
            GOOD | {"split": 1},
            GOOD | {"pictures": []},
        ),
        *(GOOD | {"pictures": "1.png"}, GOOD | {"pictures": [3]}, GOOD | {"pictures": {"1.png": 1}}),
        *(
            GOOD | {"sound": path}
            for path in ("/dev/zero", "../1.wav", "a/../../1.wav", "a\0.wav", "", ".", 5)
        ),
        *(GOOD | {"sound": ["/dev/zero", *SHARDED[1:]]}, GOOD | {"sound": ["a.tar", "1.wav", -1, 10]}),
        *(GOOD | {"sound": SHARDED[:3]}, GOOD | {"sound": ["a.tar", "1.wav", 0, True]}),
        *(GOOD | {"sound": ["a.tar", "1.wav", 0.5, 10]}, GOOD | {"pictures": [["a.tar", 1, 0, 10]]}),
    ],
    ids=repr,
)
def test_rows_of_other_shapes_are_told_by_their_line(tmp_path, row):
    (tmp_path / MANIFEST).write_text(f"{json.dumps(GOOD)}\n{json.dumps(row)}\n", encoding="utf-8")
    with pytest.raises(InputError, match="Line 2 of.*cannot be read"):
        scan(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[" * 100_000, json.dumps(GOOD).encode() + b"\xe9\n"])
def test_a_manifest_that_is_none_is_told(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match="Line 1 of.*prepare the data again"):
        scan(tmp_path)


def test_what_would_never_end_is_not_opened(files, tmp_path):
    """Pipes and devices in the place of a manifest, a shard, a sound and a picture."""
    for name in (MANIFEST, "progress.jsonl", "a.tar"):
        folder = tmp_path / name
        folder.mkdir()
        os.mkfifo(folder / name)
        with pytest.raises(InputError, match=f"{name}' is no file"):
            scan(folder)
    listed = tmp_path / "listed"
    listed.mkdir()
    os.mkfifo(listed / "1.wav")
    (listed / "1.png").symlink_to("/dev/zero")
    (listed / "a.tar").write_bytes(b"1234")
    rows = [GOOD, GOOD | {"id": "2", "label": "cat", "sound": ["a.tar", "1.wav", 0, 1 << 50]}]
    (listed / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dog, cat = scan(listed)
    with pytest.raises(InputError, match="1.wav' is no file"):
        dog.load_sound()
    with pytest.raises(InputError, match="1.png' is no file"):
        dog.load_picture(0)
    with pytest.raises(InputError, match="a.tar' ends before '1.wav'"):
        cat.load_sound()


def test_lines_end_where_they_are_ended(tmp_path):
    """A label may hold what other programs take for a line's end."""
    rows = [GOOD, GOOD | {"id": "2", "label": "a\u2028b\x85c"}]
    (tmp_path / MANIFEST).write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
    )
    assert scan(tmp_path)[1].label == "a b c"


def test_a_damaged_member_is_told_by_its_name(files, tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"1.txt": b"x", "1.wav": b"RIFF", "1.png": b"\x89PNG"})
    write_shard(tmp_path / "b.tar", {"2.txt": b"y", "2.wav": files[0], "2.png": files[1]})
    clip = scan(tmp_path)[0]
    with pytest.raises(InputError, match="a.tar/1.wav"):
        clip.load_sound()
    with pytest.raises(InputError, match="a.tar/1.png"):
        clip.load_picture(0)
    shard.unlink()
    with pytest.raises(InputError, match="a.tar.*make the shard again"):
        clip.load_sound()


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_links_that_lead_to_themselves_are_no_clips(files, tmp_path):
    for name in ("dog", "rain"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").write_bytes(files[0])
        (tmp_path / name / "1.gif").write_bytes(files[1])
        (tmp_path / name / "2.wav").symlink_to("2.wav")
    (tmp_path / "loop").symlink_to("loop")
    assert [clip.id for clip in scan(tmp_path)] == ["dog/1", "rain/1"]
    with pytest.raises(InputError, match="There is no folder"):
        scan(tmp_path / "loop")
