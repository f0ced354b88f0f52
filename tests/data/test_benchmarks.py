"""Sets of recordings are read as they are published."""

import os

import pytest

from aai.data.benchmarks import read_recordings
from aai.errors import InputError

ESC50 = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
2-100038-A-14.wav,2,14,chirping_birds,False,100038,A
5-9032-A-0.wav,5,0,dog,True,9032,A
1-17367-A-10.wav,1,10,rain,True,17367,A
"""
URBAN = """slice_file_name,fsID,start,end,salience,fold,classID,class
100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark
100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing
"""


def write(folder, listed, content, paths):
    for path in (listed, *paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    (folder / listed).write_text(content, encoding="utf-8")


@pytest.fixture
def esc50(tmp_path):
    names = [line.split(",")[0] for line in ESC50.splitlines()[1:]]
    write(tmp_path, "meta/esc50.csv", ESC50, [f"audio/{name}" for name in names])
    return tmp_path


def test_esc50_and_the_ten_classes_within(esc50):
    name, found = read_recordings(esc50)
    assert name == "ESC-50"
    assert [(r.label, r.fold) for r in found] == [("dog", 1), ("chirping birds", 2), ("dog", 5), ("rain", 1)]
    assert found[0].path == esc50 / "audio" / "1-100032-A-0.wav"
    name, found = read_recordings(esc50, esc10=True)
    assert name == "ESC-10" and {r.label for r in found} == {"dog", "rain"}
    assert [r.fold for r in read_recordings(esc50, (1,))[1]] == [1, 1]


def test_urbansound_keeps_its_sounds_by_fold(tmp_path):
    paths = ["audio/fold5/100032-3-0-0.wav", "audio/fold10/100263-2-0-117.wav"]
    write(tmp_path, "metadata/UrbanSound8K.csv", URBAN, paths)
    name, found = read_recordings(tmp_path)
    assert name == "UrbanSound8K"
    assert [(r.label, r.fold) for r in found] == [("dog bark", 5), ("children playing", 10)]
    assert [r.path for r in found] == [tmp_path / path for path in paths]
    (tmp_path / paths[0]).unlink()
    with pytest.raises(InputError, match="100032-3-0-0.wav' is missing"):
        read_recordings(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_folds_on_another_disk_are_found(tmp_path):
    write(
        tmp_path / "set", "UrbanSound8K.csv", URBAN, ["fold5/100032-3-0-0.wav", "fold10/100263-2-0-117.wav"]
    )
    (tmp_path / "set" / "fold5").rename(tmp_path / "disk")
    (tmp_path / "set" / "fold5").symlink_to(tmp_path / "disk")
    assert len(read_recordings(tmp_path / "set")[1]) == 2


@pytest.mark.parametrize("above", ["", "audio/", "UrbanSound8K/audio/"])
@pytest.mark.parametrize("inner", ["", "archive/"])
def test_urbansound_as_its_mirrors_lay_it_out(tmp_path, above, inner):
    """Its list at the top, beside the folders of folds: its labels are classes, not folds."""
    paths = [f"{inner}{above}fold5/100032-3-0-0.wav", f"{inner}{above}fold10/100263-2-0-117.wav"]
    # A sound of the same name in another fold's folder is another.
    write(tmp_path, f"{inner}UrbanSound8K.csv", URBAN, [*paths, f"{inner}{above}fold2/100032-3-0-0.wav"])
    name, found = read_recordings(tmp_path)
    assert name == "UrbanSound8K"
    assert [(r.label, r.fold) for r in found] == [("dog bark", 5), ("children playing", 10)]
    assert [r.path for r in found] == [tmp_path / path for path in paths]
    (tmp_path / paths[0]).unlink()
    with pytest.raises(InputError, match="100032-3-0-0.wav' is missing"):
        read_recordings(tmp_path)


@pytest.mark.parametrize("above", ["", "audio/", "audio/audio/", "wavs/"])
def test_esc50_as_its_mirrors_lay_it_out(tmp_path, above):
    names = [line.split(",")[0] for line in ESC50.splitlines()[1:]]
    write(tmp_path, "esc50.csv", ESC50, [f"{above}{name}" for name in names])
    write(tmp_path / "resampled", "notes.txt", "", [f"{above}16000/{name}" for name in names])
    name, found = read_recordings(tmp_path)
    assert name == "ESC-50" and [r.path for r in found] == [tmp_path / f"{above}{name}" for name in names]
    assert [(r.label, r.fold) for r in found] == [("dog", 1), ("chirping birds", 2), ("dog", 5), ("rain", 1)]


def test_sets_that_are_there_twice_are_refused(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder, "UrbanSound8K.csv", URBAN, ["x/100032-3-0-0.wav", "y/100032-3-0-0.wav"])
    with pytest.raises(InputError, match="several sets"):
        read_recordings(tmp_path)
    with pytest.raises(InputError, match="x.100032-3-0-0.wav' is there twice"):
        read_recordings(tmp_path / "a")


@pytest.mark.parametrize(
    "line", ["1-100032-A-0.wav,1", "../1-100032-A-0.wav,1,0,dog,True,1,A", ",1,0,dog,True,1,A"]
)
def test_lists_with_broken_lines_are_refused(esc50, line):
    (esc50 / "meta" / "esc50.csv").write_text(f"{ESC50}{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="as it is published"):
        read_recordings(esc50)


def test_folders_of_classes_tell_folds_where_all_names_do(tmp_path):
    for path in ("sea_waves/1-28135-A.ogg", "sea_waves/4-1-A.ogg", "rain/12-2-A.ogg", "rain/notes.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    name, found = read_recordings(tmp_path)
    assert name == tmp_path.name
    assert [(r.label, r.fold) for r in found] == [("rain", 12), ("sea waves", 1), ("sea waves", 4)]
    (tmp_path / "rain" / "loud.wav").touch()
    assert {r.fold for r in read_recordings(tmp_path)[1]} == {0}


def test_folders_of_splits_and_of_folds_are_no_classes(tmp_path):
    splits = ["train/dog/1.wav", "test/dog/2.wav", "train/cat/3.wav", "test/cat/4.wav"]
    write(tmp_path / "a", "notes.txt", "", splits)
    found = read_recordings(tmp_path / "a")[1]
    assert sorted((r.label, r.path.name, r.fold) for r in found) == [
        ("cat", "3.wav", 0), ("cat", "4.wav", 0), ("dog", "1.wav", 0), ("dog", "2.wav", 0),
    ]  # fmt: skip
    write(tmp_path / "b", "notes.txt", "", ["fold1/dog/1.wav", "fold10/cat/2.wav"])
    found = read_recordings(tmp_path / "b")[1]
    assert [(r.label, r.fold) for r in found] == [("dog", 1), ("cat", 10)]
    for kind, names in (("split", ("train", "test")), ("fold", ("fold1", "fold2"))):
        write(tmp_path / kind, "notes.txt", "", [f"{name}/1.wav" for name in names])
        with pytest.raises(InputError, match=f"is a {kind} and no class"):
            read_recordings(tmp_path / kind)


def test_esc10_is_asked_of_esc50_alone(tmp_path):
    write(tmp_path / "a", "notes.txt", "", ["dog/1.wav", "cat/2.wav"])
    write(tmp_path / "b", "UrbanSound8K.csv", URBAN, ["100032-3-0-0.wav", "100263-2-0-117.wav"])
    for folder in ("a", "b"):
        with pytest.raises(InputError, match=f"ESC-10 is a part of ESC-50, which '.*{folder}' is not"):
            read_recordings(tmp_path / folder, esc10=True)
    with pytest.raises(InputError, match="no fold 1: it has no folds"):
        read_recordings(tmp_path / "a", (1,))


def test_lists_of_other_kinds_are_refused(esc50, tmp_path_factory):
    for folds in ((4,), (1, 4)):
        with pytest.raises(InputError, match="no fold 4: it has the folds 1, 2, 5, so"):
            read_recordings(esc50, folds)
    with pytest.raises(InputError, match="1 classes"):
        read_recordings(esc50, (5,))
    (esc50 / "meta" / "esc50.csv").write_text("file,label\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'filename'"):
        read_recordings(esc50)
    (esc50 / "meta" / "esc50.csv").write_text(ESC50.replace(",1,0,", ",one,0,"), encoding="utf-8")
    with pytest.raises(InputError, match="'one' as a fold"):
        read_recordings(esc50)
    with pytest.raises(InputError, match="no folder"):
        read_recordings(esc50 / "nowhere")
    with pytest.raises(InputError, match="0 classes"):
        read_recordings(tmp_path_factory.mktemp("empty"))
