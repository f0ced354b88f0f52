"""What the towers made of a file is kept until the file changes, whatever stops whom."""

import os

import pytest
import torch

from aai.align.feature_store import DiskStore, MemoryStore, stamp
from aai.data.clips import File
from aai.encoders.fingerprint import digest
from aai.errors import InputError


def rows(n, seed=0):
    return torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(seed))


def open_rows(folder):
    return DiskStore(folder / "sounds", (2, 3), torch.float32)


def test_rows_come_back_by_their_file(tmp_path):
    store = open_rows(tmp_path)
    store.add([("rain", rows(2)), ("dog", rows(1, 1))])
    store.add([("fire", rows(3, 2))])
    for array in (store.reopen(), open_rows(tmp_path)):
        assert len(array) == 6 and list(array.find("fire")) == [3, 4, 5] and array.find("wind") is None
        assert torch.equal(array[[2, 0, 1]], torch.cat([rows(1, 1), rows(2)]))
        assert torch.equal(array[array.find("fire")], rows(3, 2))
    half = DiskStore(tmp_path / "half", (2, 3), torch.float16)
    half.add([("rain", rows(2))])
    assert torch.equal(half.reopen()[[0, 1]], rows(2).half().float())


def test_processes_write_their_own_parts_and_read_all(tmp_path):
    first, second = open_rows(tmp_path), open_rows(tmp_path)
    first.add([("rain", rows(2))])
    second.add([("dog", rows(1, 1))])
    for array in (first.reopen(), second.reopen(), open_rows(tmp_path)):
        assert len(array) == 3
        assert torch.equal(array[[*array.find("dog"), *array.find("rain")]], torch.cat([rows(1, 1), rows(2)]))


@pytest.mark.parametrize(
    "journal", [b"", b'{"file": "rain", "rows": 2}\n', b'{"file": "rain", "rows": 2}\n{"fi']
)
def test_what_was_being_written_when_it_stopped_does_not_count(tmp_path, journal):
    store = open_rows(tmp_path)
    store.add([("rain", rows(2)), ("dog", rows(1, 1))])
    store.journal.write_bytes(journal)
    with store.data.open("ab") as file:
        file.write(b"half a row")
    again = open_rows(tmp_path)
    assert len(again) == (2 if journal else 0) and again.find("dog") is None
    again.add([("fire", rows(1, 2))])
    assert torch.equal(again.reopen()[again.find("fire")], rows(1, 2))
    if journal:
        assert torch.equal(again[again.find("rain")], rows(2))


LINES = [b'{"file": "rain", "rows": 2}\n', b'{"file": "dog", "rows": 1}\n', b'{"file": "fire", "rows": 3}\n']


def cut_to(size):
    return lambda store: os.truncate(store.data, size)


def journal_of(*lines):
    return lambda store: store.journal.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    "tear, kept",
    [
        (cut_to(3 * 24 + 10), 2),
        (cut_to(2 * 24), 1),
        (cut_to(10), 0),
        (lambda store: store.data.unlink(), 0),
        (journal_of(*LINES, b"\0" * 20 + b"\n"), 3),
        (journal_of(LINES[0], b"\0" * 20 + b"\n", LINES[2]), 1),
        (journal_of(LINES[0], LINES[1].replace(b"rows", b"rws"), LINES[2]), 1),
        (journal_of(LINES[0], LINES[1].replace(b"1", b"-1"), LINES[2]), 1),
        (journal_of(b"[]\n", *LINES), 0),
        (journal_of(b"\xff\n", *LINES), 0),
    ],
)
def test_what_was_torn_does_not_count(tmp_path, tear, kept):
    """A store that was copied in part, or that a power cut has torn."""
    store = open_rows(tmp_path)
    given = {"rain": rows(2), "dog": rows(1, 1), "fire": rows(3, 2)}
    store.add(list(given.items()))
    whole = open_rows(tmp_path)
    whole.add([("wind", rows(2, 3))])
    tear(store)
    again = open_rows(tmp_path)
    assert [name for name in given if again.find(name)] == list(given)[:kept]
    again.add([(name, values) for name, values in given.items() if again.find(name) is None])
    for array in (again.reopen(), open_rows(tmp_path)):
        for name, values in {**given, "wind": rows(2, 3)}.items():
            assert torch.equal(array[array.find(name)], values)


def test_a_changed_file_is_another_one(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    before = stamp(File(path))
    assert stamp(File(path)) == before and stamp(File(path, 1, 2, "b.wav")) != before
    path.write_bytes(b"two")
    os.utime(path, (1, 1))
    assert stamp(File(path)) != before
    with pytest.raises(InputError, match="gone.wav"):
        stamp(File(tmp_path / "gone.wav"))


def test_a_copied_folder_is_the_same_one(tmp_path):
    for name in ("data", "scratch"):
        (tmp_path / name / "rain").mkdir(parents=True)
        (tmp_path / name / "rain" / "0.wav").write_bytes(b"one")
        os.utime(tmp_path / name / "rain" / "0.wav", (1, 1))
    data, scratch = tmp_path / "data", tmp_path / "scratch"
    file = scratch / "rain" / "0.wav"
    kept = stamp(File(data / "rain" / "0.wav"), data)
    assert stamp(File(file), scratch) == kept and stamp(File(file), tmp_path) != kept
    os.utime(file, (2, 2))
    assert stamp(File(file), scratch) != kept


@pytest.mark.parametrize("time", [0, 315_532_800])
def test_files_without_a_time_are_told_by_their_content(tmp_path, time):
    """Archives may keep no times: two data sets, of names and sizes alike, may share a store."""
    for name, content in (("one", b"aaa"), ("other", b"abb"), ("copy", b"aaa")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.wav").write_bytes(content)
        os.utime(tmp_path / name / "0.wav", (time, time))

    def named(name, *member):
        return stamp(File(tmp_path / name / "0.wav", *member), tmp_path / name)

    assert named("one") == named("copy") != named("other")
    assert named("one", 0, 1, "a") == named("other", 0, 1, "a")
    assert named("one", 1, 2, "a") != named("other", 1, 2, "a")


def test_other_settings_and_weights_have_other_names():
    names = {digest(1, "a"), digest(1, "b"), digest(torch.zeros(2)), digest(torch.ones(2))}
    assert len(names) == 4 and digest(torch.ones(2)) in names


def test_a_disk_that_fills_up_gets_a_sentence_and_loses_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    store = open_rows(tmp_path)
    store.add([("rain", rows(2))])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(InputError, match="cannot be stored.*make room"):
            store.add([("dog", rows(10_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for array in (store, open_rows(tmp_path)):
        assert torch.equal(array.reopen()[array.find("rain")], rows(2))
        array.add([(f"dog {id(array)}", rows(1, 1))])
        assert torch.equal(array.reopen()[array.find(f"dog {id(array)}")], rows(1, 1))


def test_a_folder_that_cannot_be_made_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be stored"):
        open_rows(tmp_path / "file")


def test_held_rows_are_the_same_in_memory():
    held = MemoryStore()
    held.add([("rain", rows(2)), ("dog", rows(1, 1))])
    assert list(held.find("dog")) == [2] and held.find("wind") is None
    assert torch.equal(held.reopen(), torch.cat([rows(2), rows(1, 1)]))
