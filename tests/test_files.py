"""Files that are whole or not there: what a kill leaves, rights, links, names."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aai import audio, files, token
from aai.align import checkpoint, labels
from aai.audio import Sound
from aai.encoders import clap, clip, loaders
from aai.errors import InputError
from aai.inject import invert
from aai.study import user_study_tally
from aai.token import SoundToken

ODD = ["x" * 300, "a\0b", "caf\udce9", "", "loop", "file/below"]
posix = pytest.mark.skipif(os.name != "posix", reason="rights, links and devices as POSIX has them")


def _left_over(folder: Path, age: float, name: str = "") -> Path:
    path = folder / (name or f".t.safetensors.{uuid.uuid4().hex}.part")
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_killed_run_left_is_removed_at_the_next_write(tmp_path):
    code = (
        "import os, sys; from aai import files\n"
        "with files.writing(sys.argv[1], 'The file') as part:\n"
        "    part.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.safetensors")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part") and left.read_bytes() == b"half"
    os.utime(left, (time.time() - 2 * files.STALE,) * 2)
    young = _left_over(tmp_path, files.STALE / 2)
    others = [
        _left_over(tmp_path, 9 * files.STALE, name)
        for name in (".mine.part", "film.part", f"t.{uuid.uuid4().hex}.part", f".t.{uuid.uuid4().hex}.tmp")
    ]
    files.write(tmp_path / "u.json", b"{}", "The file")
    assert not left.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"u.json", young.name, *(p.name for p in others)}


@posix
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_every_file_has_a_new_files_rights(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        files.write(tmp_path / "a.json", b"{}", "The file")
        with files.writing(tmp_path / "b.safetensors", "The index") as part:
            save_file({"x": torch.zeros(2)}, str(part))
        SoundToken("c", {"clip_l": torch.randn(1, 8)}).save(tmp_path / "c.safetensors")
        audio.save(Sound(torch.zeros(1, 1600), 16000), tmp_path / "d.wav")
    finally:
        os.umask(before)
    found = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert found == {name: mode for name in ("a.json", "b.safetensors", "c.safetensors", "d.wav")}


@posix
def test_a_linked_file_is_written_through_its_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").mkdir()
    link, target = tmp_path / "models" / "t.safetensors", tmp_path / "disk" / "real.safetensors"
    SoundToken("old", {"clip_l": torch.randn(1, 8)}).save(target)
    link.symlink_to(target)
    SoundToken("new", {"clip_l": torch.randn(1, 8)}).save(link)
    assert link.is_symlink() and not target.is_symlink() and token.load(target).name == "new"
    target.unlink()
    files.write(link, b"again", "The file")
    assert link.is_symlink() and target.read_bytes() == b"again"
    assert os.listdir(tmp_path / "models") == ["t.safetensors"] and os.listdir(target.parent) == [target.name]


@posix
def test_a_walk_goes_behind_links_and_meets_nothing_twice(tmp_path):
    for name in (
        "set/b/1.wav",
        "set/b/deep/2.wav",
        "set/c.wav",
        "set/.hidden/3.wav",
        "disk/4.wav",
        "disk/5.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "set"
    for name, target in {
        "a": "b", "away": "../disk", "again": "../disk", "b/up": "..", "b/above": "../..", "b/system": "/",
        "loop": "loop", "gone.wav": "nothing", "linked.wav": "../disk/4.wav",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    found = [Path(entry.path).relative_to(root).as_posix() for entry in files.walk(root)]
    assert found == [
        "c.wav",
        "gone.wav",
        "linked.wav",
        "loop",
        "b/1.wav",
        "b/deep/2.wav",
        "again/4.wav",
        "again/5.wav",
    ]


@posix
def test_a_walk_ends_where_a_drive_numbers_nothing(tmp_path, monkeypatch):
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "1.wav").touch()
    for name in ("a/back", "a/again"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "set")
    stat = os.stat
    monkeypatch.setattr(
        os,
        "stat",
        lambda *given, **named: os.stat_result((*stat(*given, **named)[:1], 0, *stat(*given, **named)[2:10])),
    )
    assert [entry.name for entry in files.walk(tmp_path / "set")] == ["1.wav"]


@posix
@pytest.mark.parametrize("what", ["folder", "device", "pipe"])
def test_only_a_file_is_replaced(tmp_path, what):
    path = tmp_path / "out"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(InputError, match="is no file: choose another name"):
        files.write(path, b"", "The file")
    assert path.exists() and not path.is_file()


def test_a_long_name_can_be_written(tmp_path):
    name = "雷" * 80
    files.write(tmp_path / name, b"x", "The file")
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(InputError, match="cannot be saved"):
        files.write(tmp_path / (3 * name), b"x", "The file")


@pytest.mark.parametrize(
    "name", ["rain", "sounds/rain", "rain.v2", "雷/thunder (1)", "console", "com10", "nullity", ".hidden"]
)
def test_names_that_stay_within_their_folder(name):
    assert files.stays_within(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../../x", "/x", "a//b", "a/", "C:/x", "C:x", "a\\b", "a\n", "a\0b", "x.", "x ",
     "nul", "CON.txt", "a/Aux/b", "lpt1", "COM¹.x", "caf\udce9", "x" * 201, "雷" * 67],
)  # fmt: skip
def test_names_that_do_not(name):
    assert not files.stays_within(name)


@posix
@pytest.mark.parametrize("name", ODD)
def test_a_path_that_cannot_be_asked_about_is_none(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    assert not files.is_file(name) and not files.is_dir(name)
    assert files.is_file("file") and files.is_dir(".")
    for read in (audio.load, token.load, loaders.load):
        with pytest.raises(InputError):
            read(name)


def test_tensors_are_written_and_read_with_their_metadata(tmp_path):
    path = tmp_path / "t.safetensors"
    tensors = {"x": torch.randn(3, 2).T, "n": torch.arange(4)}
    files.write_safetensors(path, tensors, {"made": "here"}, "The file")
    for mapped in (True, False):
        read, metadata = files.read_safetensors(path, mapped=mapped)
        assert metadata == files.metadata(path) == {"made": "here"}
        assert all(torch.equal(read[name], tensors[name]) for name in tensors) and len(read) == 2
    assert list(files.read_safetensors(path, select=lambda names: [n for n in names if n == "n"])[0]) == ["n"]
    assert torch.equal(files.read_weights(path)["x"], tensors["x"])
    torch.save(tensors, tmp_path / "t.pt")
    assert torch.equal(files.read_weights(tmp_path / "t.pt", mapped=True)["x"], tensors["x"])


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("kind", ["missing", "torn", "empty", "folder", pytest.param("pipe", marks=posix)])
def test_what_holds_no_tensors_is_unreadable(tmp_path, kind, ending):
    path = tmp_path / f"x.{ending}"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_bytes(b"no tensors" if kind == "torn" else b"")
    with pytest.raises(files.Unreadable, match=r"^[^\n]{1,120}$"):
        files.read_weights(path)
    assert files.metadata(path) == {}


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "complex64"])
def test_numbers_that_torch_does_not_compute_with(tmp_path, kind):
    kind, values = getattr(torch, kind), torch.tensor([0.5, 2.0])
    save_file({"a": values.to(kind)}, tmp_path / "a.safetensors")
    if kind.is_floating_point:
        read = files.read_safetensors(tmp_path / "a.safetensors")[0]["a"]
        assert read.dtype == torch.float32 and torch.equal(read, values)
    else:
        with pytest.raises(files.Unreadable, match="numbers of the kind"):
            files.read_safetensors(tmp_path / "a.safetensors")


def test_results_of_other_settings_are_not_mixed(tmp_path):
    path = tmp_path / "settings.json"
    for _ in range(2):
        files.check_same_settings(path, {"steps": 5, "words": ("a", "b")})
    with pytest.raises(InputError, match="another steps .5, not 6"):
        files.check_same_settings(path, {"steps": 6, "words": ("a", "b")})


@posix
def test_pipes_and_devices_are_never_read(tmp_path):
    readers = {
        "a.wav": audio.load,
        "a.safetensors": token.load,
        "b.safetensors": invert.load,
        "c.safetensors": loaders.load,
        "a.pth": loaders.load,
        "a.state": checkpoint.read,
        "a.txt": labels.read,
        "a.json": lambda path: user_study_tally.tally([], path),
    }
    for kind in ("pipe", "device"):
        for name, read in readers.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            path = tmp_path / kind / name
            os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
            with pytest.raises(InputError, match=re.escape(name)):
                read(path)
        folder = tmp_path / kind / "model"
        folder.mkdir()
        path = folder / "config.json"
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
        for read in (clip.load_clip, clap.load_folder):
            with pytest.raises(InputError, match="model"):
                read(folder)


@pytest.mark.parametrize("refusals", [2, 100])
def test_a_file_that_is_held_for_a_moment_is_replaced(tmp_path, monkeypatch, refusals):
    """As a scanner for viruses holds each new file on Windows."""
    move, tries = os.replace, []

    def held(source, target):
        tries.append(target)
        if len(tries) <= refusals:
            raise PermissionError(13, "Access is denied")
        move(source, target)

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))
    path = tmp_path / "rain.safetensors"
    if refusals == 2:
        files.write_safetensors(path, {"x": torch.ones(2)}, {}, "The token")
        assert path.is_file() and len(tries) == 3
    else:
        with pytest.raises(InputError, match="The token cannot be saved .*Access is denied"):
            files.write_safetensors(path, {"x": torch.ones(2)}, {}, "The token")
        assert len(tries) == 4 and not list(tmp_path.iterdir())
