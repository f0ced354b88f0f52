"""The list of Debian's recordings, and sounds in the containers of two of the packages."""

import struct
import zlib

import pytest

from aai.errors import InputError
from aai.soundworld.build import debian
from aai.soundworld.world import EVENTS

# Kinds that are kept for the test of what an encoder does not know.
KEPT_BACK = ("chainsaw", "sneez", "baby", "babies")


def test_the_list_has_events_and_other_kinds_and_none_that_is_kept_back():
    rows = debian.recordings()
    assert len(rows) > 1000 and {"package", "source", "kind"} == set(rows[0])
    kinds = {row["kind"] for row in rows}
    assert set(EVENTS) <= kinds and {"animal", "speech", "tool"} <= kinds
    sounds = [row["source"].rsplit("/", 1)[-1].lower() for row in rows]
    assert not [name for name in sounds for word in KEPT_BACK if word in name]
    assert len({(row["package"], row["source"]) for row in rows}) == len(rows)


def resource(files: dict[str, bytes], packed: bool) -> bytes:
    """A Qt resource of one folder, "sounds", as its first version lays it out."""
    names, offsets = b"", []
    for name in ("sounds", *files):
        offsets.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    contents, places = b"", []
    for content in files.values():
        places.append(len(contents))
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        contents += struct.pack(">I", len(stored)) + stored
    tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", offsets[0], 2, len(files), 2)
    for offset, place in zip(offsets[1:], places):
        tree += struct.pack(">IHHHI", offset, int(packed), 0, 0, place)
    begin = 20
    head = struct.pack(">4s4I", b"qres", 1, begin, begin + len(tree), begin + len(tree) + len(contents))
    return head + tree + contents + names


@pytest.mark.parametrize("packed", [False, True])
def test_a_sound_in_a_qt_resource(tmp_path, packed):
    path = tmp_path / "a.rcc"
    path.write_bytes(resource({"one.ogg": b"first", "two.ogg": b"the second"}, packed))
    assert debian._of_rcc(path, "sounds/two.ogg") == b"the second"
    with pytest.raises(InputError, match=r"no 'sounds/three.ogg'"):
        debian._of_rcc(path, "sounds/three.ogg")


def test_a_sound_in_openttds_container(tmp_path):
    sounds = [b"RIFF" + struct.pack("<I", 6) + b"WAVE" + bytes([n] * 2) for n in (1, 2)]
    table, body = b"", b""
    for sound in sounds:
        entry = b"\x05name\x00" + sound
        table += struct.pack("<II", 16 + len(body), len(entry))
        body += entry
    (tmp_path / "a.cat").write_bytes(table + body)
    assert [debian._of_cat(tmp_path / "a.cat", n) for n in (0, 1)] == sounds


def test_what_was_unpacked_is_listed(tmp_path, monkeypatch):
    for name in ("one.ogg", "deep/two.wav"):
        (tmp_path / "pack" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pack" / name).write_bytes(b"")
    rows = [
        {"package": "pack", "source": "one.ogg", "kind": "dog"},
        {"package": "pack", "source": "deep/two.wav", "kind": "animal"},
    ]
    monkeypatch.setattr(debian, "recordings", lambda: rows)
    debian.bring(tmp_path)
    lines = (tmp_path / "recordings.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["package,path,kind", "pack,pack/one.ogg,dog", "pack,pack/deep/two.wav,animal"]
    rows.append({"package": "pack", "source": "gone.ogg", "kind": "animal"})
    with pytest.raises(InputError, match=r"'pack' has no 'gone.ogg'"):
        debian.bring(tmp_path)
