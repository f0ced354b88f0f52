"""A folder as a library: what is kept, what is seen again, and what happens when something goes wrong."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.testing import assert_close

from aai.errors import InputError
from aai.library.index import default_file, index, read, scan
from aai.library.retrieval import Library, references


@dataclass
class Colours:
    """Sees a picture as its mean colour, and counts what it sees."""

    key: str = "colours"
    name: str = "colours"
    image_size: int = 16
    seen: list[int] = field(default_factory=list)

    def embed_images(self, images):
        assert images.shape[1:] == (3, 16, 16) and images.min() >= 0 and images.max() <= 1
        self.seen.append(len(images))
        return F.normalize(images.mean((2, 3)) + 1e-3, dim=-1)

    def query(self, f_a):
        return F.normalize(f_a, dim=-1)


def flat(path, colour, size=(20, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    flat(folder / "red.png", (255, 0, 0))
    flat(folder / "deep" / "green.bmp", (0, 255, 0), (9, 40))
    flat(folder / "blue.JPG", (0, 0, 255))
    (folder / "notes.txt").write_text("words", encoding="utf-8")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    flat(folder / ".hidden" / "a.png", (9, 9, 9))
    return folder


def test_a_folder_becomes_a_library_and_bad_files_are_left_out(folder, caplog):
    told = []
    library = index(folder, Colours(), batch=2, callback=lambda *counts: told.append(counts))
    assert library.names == ["blue.JPG", "deep/green.bmp", "red.png"]
    assert "broken.png" in caplog.text and told == [(2, 4), (4, 4)]
    assert "their endings are no pictures': 1 ('notes.txt' for one)" in caplog.text
    assert_close(library.features.norm(dim=1), torch.ones(3))
    found = references(torch.tensor([0.0, 8.0, 0.1]), library, 1)
    assert found[0].path == folder / "deep" / "green.bmp"
    assert library.file == default_file(folder, Colours()) and library.file.is_file()


@pytest.fixture
def can_link(tmp_path):
    try:
        (tmp_path / "linked").symlink_to(tmp_path)
        (tmp_path / "linked").unlink()
    except OSError:
        pytest.skip("links cannot be made here")


def test_linked_folders_belong_to_a_library_once(folder, tmp_path, can_link):
    flat(tmp_path / "elsewhere" / "far.png", (1, 2, 3))
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "a_round").symlink_to(folder)
    (folder / "deep" / "up").symlink_to(folder.parent)
    (folder / "a_deep").symlink_to(folder / "deep")
    (folder / "one.png").symlink_to(tmp_path / "elsewhere" / "far.png")
    names = ["again/far.png", "blue.JPG", "broken.png", "deep/green.bmp", "one.png", "red.png"]
    assert list(scan(folder)) == names
    assert (folder / index(folder, Colours()).names[0]).samefile(tmp_path / "elsewhere" / "far.png")


def test_a_link_that_leads_nowhere_ends_no_index(folder, can_link):
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    assert list(scan(folder)) == ["blue.JPG", "broken.png", "deep/green.bmp", "red.png"]


def test_a_name_too_long_for_a_folder_is_missing(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        scan(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="There is no index"):
        read(tmp_path / ("x" * 300), Colours())


def test_what_decodes_is_in_the_library(folder, caplog):
    flat(folder / "a.jfif", (9, 9, 9))
    flat(folder / "b.JPE", (9, 9, 9))
    assert {"a.jfif", "b.JPE"} <= set(index(folder, Colours()).names)


@pytest.mark.skipif(os.name != "posix", reason="names are Unicode here")
def test_a_name_that_is_no_unicode_is_kept(folder, caplog):
    os.rename(folder / "red.png", os.fsencode(folder) + b"/caf\xe9.png")
    os.rename(folder / "notes.txt", os.fsencode(folder) + b"/caf\xe9.txt")
    os.rename(folder / "broken.png", os.fsencode(folder) + b"/brok\xe9n.png")
    tower = Colours()
    names = ["blue.JPG", "caf\udce9.png", "deep/green.bmp"]
    assert index(folder, tower).names == index(folder, tower).names == names and tower.seen == [3]
    # ComfyUI's log takes no other.
    assert r"caf\udce9.txt" in caplog.text.encode().decode() and r"brok\udce9n.png" in caplog.text
    assert references(torch.tensor([9.0, 0.0, 0.0]), read(default_file(folder, tower), tower), 1)[
        0
    ].path.exists()


@pytest.mark.skipif(os.name != "posix", reason="names are Unicode here")
@pytest.mark.parametrize("file", [None, "index.safetensors", b"ind\xe9x.safetensors"])
def test_a_folder_whose_own_name_is_no_unicode_is_indexed_once(folder, tmp_path, file):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    os.rename(folder, odd)
    place = file and tmp_path / os.fsdecode(file)
    tower = Colours()
    first, again = (index(odd, tower, place, fast=fast) for fast in (False, True))
    assert tower.seen == [3] and torch.equal(first.features, again.features)
    read_again = read(place or default_file(odd, tower), tower)
    assert read_again.folder == odd.resolve() and read_again.fast
    assert references(torch.tensor([9.0, 0.0, 0.0]), read_again, 1)[0].path == odd / "red.png"


def test_a_folder_that_cannot_be_read_is_left_out(folder, monkeypatch, caplog):
    scandir = os.scandir

    def locked(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert list(scan(folder)) == ["blue.JPG", "broken.png", "red.png"]
    assert "deep' is passed over: it cannot be read (Permission denied)" in caplog.text


def test_only_what_has_changed_is_seen_again(folder):
    (folder / "broken.png").unlink()
    tower = Colours()
    first = index(folder, tower)
    assert tower.seen == [3]
    stamp = first.file.stat().st_mtime_ns
    again = index(folder, tower)
    assert tower.seen == [3] and first.file.stat().st_mtime_ns == stamp
    assert torch.equal(again.features, first.features)
    flat(folder / "red.png", (0, 255, 255), (30, 30))
    flat(folder / "deep" / "new.png", (255, 255, 0))
    (folder / "blue.JPG").unlink()
    updated = index(folder, tower)
    assert tower.seen == [3, 2] and updated.names == ["deep/green.bmp", "deep/new.png", "red.png"]
    assert torch.equal(updated.features[0], first.features[1])
    fresh = index(folder, Colours(), folder.parent / "elsewhere.safetensors")
    assert_close(fresh.features, updated.features, rtol=0, atol=0)
    (folder / "red.png").unlink()
    assert index(folder, tower).names == ["deep/green.bmp", "deep/new.png"] and tower.seen == [3, 2]
    assert sum(p.name.startswith(".aai-library") for p in folder.iterdir()) == 1


def test_another_tower_has_another_index(folder, tmp_path):
    index(folder, Colours())
    other = Colours(key="others", name="other eyes")
    index(folder, other)
    assert other.seen == [3] and len(list(folder.glob(".aai-library-*.safetensors"))) == 2
    place = tmp_path / "chosen.safetensors"
    index(folder, Colours(), place)
    with pytest.raises(InputError, match="another visual tower"):
        index(folder, other, place)
    flat(tmp_path / "second" / "a.png", (1, 2, 3))
    with pytest.raises(InputError, match="another folder"):
        index(tmp_path / "second", Colours(), place)


def test_an_index_is_read_as_it_is_and_moves_with_its_folder(folder, tmp_path):
    made = index(folder, Colours())
    shutil.move(folder, tmp_path / "moved")
    moved = read(tmp_path / "moved" / made.file.name, Colours())
    assert moved.names == made.names and moved.folder == tmp_path / "moved"
    assert_close(moved.features, made.features, rtol=0, atol=0)
    chosen = index(tmp_path / "moved", Colours(), tmp_path / "chosen.safetensors")
    assert read(chosen.file, Colours()).folder == tmp_path / "moved"
    with pytest.raises(InputError, match="There is no index"):
        read(tmp_path / "nowhere.safetensors", Colours())


def test_features_are_mapped_not_read(tmp_path):
    folder = tmp_path / "many"
    flat(folder / "a.png", (1, 2, 3))

    class Wide(Colours):
        def embed_images(self, images):
            return torch.ones(len(images), 25_000_000)

    index(folder, Wide())
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        pytest.skip("resident memory cannot be read here")

    def resident() -> int:
        with open(statm, encoding="utf-8") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    library = index(folder, Wide())
    assert resident() - before < 30e6 < library.features.nbytes


def test_cancelling_keeps_what_was_seen(folder):
    (folder / "broken.png").unlink()
    tower = Colours()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(folder, tower, batch=2, callback=stop)
    assert read(default_file(folder, tower), tower).names == ["blue.JPG", "deep/green.bmp"]
    assert index(folder, tower, batch=2).names == ["blue.JPG", "deep/green.bmp", "red.png"]
    assert tower.seen == [2, 1] and not list(folder.rglob("*.part"))


def test_what_was_seen_outlives_the_process(folder, monkeypatch):
    (folder / "broken.png").unlink()
    monkeypatch.setattr("aai.library.index.SAVE_EVERY", 0.0)
    monkeypatch.setattr("aai.library.index.SAVING", math.inf)
    found = []

    def look(done, total):
        # As it lies there, for whoever comes after a kill.
        found.append(read(default_file(folder, Colours()), Colours()).names)

    tower = Colours()
    library = index(folder, tower, batch=1, callback=look)
    assert found == [["blue.JPG"], ["blue.JPG", "deep/green.bmp"], library.names]
    fresh = index(folder, Colours(), folder.parent / "elsewhere.safetensors")
    assert_close(library.features, fresh.features, rtol=0, atol=0)


def test_a_killed_index_goes_on_where_it_was(folder):
    (folder / "broken.png").unlink()
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); import test_index; from aai.library import index\n"
        "index.SAVE_EVERY, index.SAVING = 0.0, float('inf')\n"
        "def kill(done, total):\n    if done == 2: os._exit(9)\n"
        "index.index(sys.argv[1], test_index.Colours(), batch=1, callback=kill)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(Path(__file__).parent)], cwd=Path(__file__).parents[2]
    )
    tower = Colours()
    assert done.returncode == 9 and len(index(folder, tower).names) == 3 and tower.seen == [1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, notes: tensors.pop("stamps"),
        lambda tensors, notes: notes.pop("key"),
        lambda tensors, notes: notes.pop("folder"),
        lambda tensors, notes: tensors.update(stamps=tensors["stamps"][:, :1].contiguous()),
        lambda tensors, notes: tensors.update(stamps=tensors["stamps"].float()),
        lambda tensors, notes: tensors.update(features=tensors["features"].long()),
        lambda tensors, notes: tensors.update(features=tensors["features"][:, 0].contiguous()),
        lambda tensors, notes: tensors.update(features=tensors["features"][:, :0].contiguous()),
        lambda tensors, notes: tensors.update(names=tensors["names"].bfloat16()),
        lambda tensors, notes: tensors.update(names=tensors["names"][:-9]),
        lambda tensors, notes: tensors.update(names=named("a.png", "a.png", "b.png")),
        lambda tensors, notes: tensors.update(names=named("a.png", "../b.png", "c.png")),
        lambda tensors, notes: tensors.update(names=named("a.png", "/b.png", "c.png")),
    ],
)
def test_an_index_that_is_none_is_made_again(folder, caplog, damage):
    (folder / "broken.png").unlink()
    tower = Colours()
    place = index(folder, tower).file
    with safe_open(str(place), "pt") as file:
        notes, tensors = file.metadata(), {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    damage(tensors, notes)
    save_file(tensors, str(place), notes)
    with pytest.raises(InputError, match="no whole index"):
        read(place, tower)
    assert len(index(folder, tower).names) == 3 and tower.seen == [3, 3] and "no whole index" in caplog.text
    assert read(place, tower).names == ["blue.JPG", "deep/green.bmp", "red.png"]


def named(*names):
    return torch.frombuffer(bytearray("\0".join(names).encode()), dtype=torch.uint8)


def test_an_index_of_another_width_is_named(folder):
    class Wide(Colours):
        def embed_images(self, images):
            return torch.ones(len(images), 5)

    place = index(folder, Colours()).file
    flat(folder / "new.png", (1, 1, 1))
    with pytest.raises(InputError, match="holds 3 numbers of a picture, not 5: delete it"):
        index(folder, Wide())
    assert len(read(place, Colours()).names) == 3


def test_features_that_are_no_numbers_are_left_out(folder, caplog):
    class Dizzy(Colours):
        def embed_images(self, images):
            features = super().embed_images(images)
            features[0] = torch.nan
            return features

    assert index(folder, Dizzy()).names == ["deep/green.bmp", "red.png"]
    assert "blue.JPG' is left out: colours makes no numbers of it" in caplog.text


def test_a_damaged_index_is_made_again(folder, caplog):
    tower = Colours()
    place = index(folder, tower).file
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(InputError, match="no whole index"):
        read(place, tower)
    assert len(index(folder, tower).names) == 3 and "no whole index" in caplog.text
    assert len(read(place, tower).names) == 3


def test_a_folder_that_takes_no_file_stays_in_memory(folder, monkeypatch, caplog):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    library = index(folder, Colours())
    assert library.file is None and len(library.names) == 3 and "kept in memory" in caplog.text
    with pytest.raises(InputError, match="No space left"):
        index(folder, Colours(), folder / "chosen.safetensors")
    assert not list(folder.rglob("*.part")) and not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize("there", ["a link", "a link to nothing", "another's file"])
def test_nothing_but_an_index_of_ours_is_replaced_beside_the_pictures(
    folder, tmp_path, can_link, caplog, there
):
    notes, place = tmp_path / "notes.txt", default_file(folder, Colours())
    if there != "a link to nothing":
        notes.write_text("of ten years", encoding="utf-8")
    if there == "another's file":
        notes.replace(place)
        notes = place
    else:
        place.symlink_to(notes)
    library = index(folder, Colours())
    assert library.file is None and len(library.names) == 3
    assert caplog.text.count("kept in memory") == 1 and "no whole index" not in caplog.text
    if there == "a link to nothing":
        assert not notes.exists()
    else:
        assert notes.read_text(encoding="utf-8") == "of ten years"
    assert place.is_symlink() == (there != "another's file")


def test_an_index_behind_a_link_is_read_and_never_replaced(folder, tmp_path, can_link, caplog):
    place = index(folder, Colours()).file
    place.replace(tmp_path / "far.safetensors")
    place.symlink_to(tmp_path / "far.safetensors")
    kept, tower = (tmp_path / "far.safetensors").read_bytes(), Colours()
    (folder / "broken.png").unlink()
    assert len(index(folder, tower).names) == 3 and not tower.seen and "in memory" not in caplog.text
    flat(folder / "new.png", (1, 1, 1))
    assert len(index(folder, tower).names) == 4 and tower.seen == [1] and "kept in memory" in caplog.text
    assert (tmp_path / "far.safetensors").read_bytes() == kept


def test_a_fast_index_is_never_written_through_a_link(folder, tmp_path, can_link):
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install faiss-cpu")
    index(folder, Colours(), fast=True)
    (made,) = folder.glob(".*.faiss")
    made.unlink()
    made.symlink_to(tmp_path / "profile")
    with pytest.raises(InputError, match="is a link.* is not replaced"):
        index(folder, Colours(), fast=True)
    assert not (tmp_path / "profile").exists()


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        scan(tmp_path)
    (tmp_path / "b.txt").write_text("words", encoding="utf-8")
    with pytest.raises(InputError, match="no pictures, by their endings, among its files .1, 'b.txt'"):
        scan(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        scan(tmp_path / "nowhere")
    (tmp_path / "a.png").write_text("words", encoding="utf-8")
    with pytest.raises(InputError, match="None of the 1 pictures"):
        index(tmp_path, Colours())


def test_fast_without_faiss_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    tower = Colours()
    with pytest.raises(InputError, match="pip install"):
        index(folder, tower, fast=True)
    assert not tower.seen


def test_the_fast_index_follows_the_library(folder):
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install faiss-cpu")
    for i in range(60):
        flat(folder / f"{i}.png", (i * 4, 255 - i * 4, 40))
    tower = Colours()
    library = index(folder, tower, fast=True)
    (made,) = folder.glob(".*.faiss")
    f_a = torch.tensor([0.6, 0.5, 0.2])
    plain = references(f_a, Library(tower, folder, library.names, library.features))
    assert references(f_a, library) == plain
    (folder / "3.png").unlink()
    assert index(folder, tower).fast.index.ntotal == len(scan(folder)) - 1
    assert [p != made for p in folder.glob(".*.faiss")] == [True]
