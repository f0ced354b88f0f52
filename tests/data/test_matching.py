"""The file that a line of a list means: by its path, its id, or its id and start."""

from pathlib import Path

from aai.data.listing import find


def found_in(source: Path, listed: str, name: str = "list.csv") -> dict[str, str]:
    """What each line of a list is made of: a path from the source, or why it is not."""
    (source / name).write_text(listed, encoding="utf-8")
    return {
        item.id: item.why or item.media.relative_to(source).as_posix()
        for item in find(source, source / name)
    }  # fmt: skip


def test_a_list_is_read_from_its_own_folder_too(tmp_path, lay):
    source = lay(tmp_path, "a/wavs/1.wav", "b/wavs/1.wav", "b/wavs/2.wav", "a/2.wav", "a/3.wav", "b/3.mp3")
    assert found_in(source, "path,label\nwavs/1.wav,x\n2.wav,y\n3.wav,z\n", "b/list.csv") == {
        "wavs_1": "b/wavs/1.wav",
        "2": "several files fit it: a/2.wav, b/wavs/2.wav",
        "3": "a/3.wav",
    }
    assert found_in(source, "path,label\n../a/wavs/1.wav,x\n", "b/list.csv") == {"a_wavs_1": "a/wavs/1.wav"}


def test_what_several_files_fit_is_refused_by_their_names(tmp_path, lay):
    source = lay(tmp_path, "dog/001.wav", "cat/001.wav", "train/x/7.wav", "test/x/7.wav", "8.wav", "8.mp3")
    assert found_in(source, "id,label\n001,dog\nx/7,b\n8,c\ntrain/x/7.ogg,e\n") == {
        "001": "several files fit it: cat/001.wav, dog/001.wav",
        "x_7": "several files fit it: test/x/7.wav, train/x/7.wav",
        "8": "several files fit it: 8.mp3, 8.wav",
        "train_x_7": "train/x/7.wav",
    }
    assert found_in(source, "id,label\n8.mp3,c\n") == {"8": "8.mp3"}


def test_a_file_in_another_folder_is_not_the_clips(tmp_path, lay):
    source = lay(tmp_path, "cat/001.wav", "002.wav", "003.wav")
    listed = "path,label\ndog/001.wav,dog\ndog/002.wav,dog\ncat/002.wav,cat\ndog/003.wav,dog\n"
    found = found_in(source, listed)
    assert "no sound or video" in found["dog_001"]
    assert found["dog_002"] == found["cat_002"] == "other paths of the list fit its file too: 002.wav"
    assert found["dog_003"] == "003.wav"


def test_parts_of_videos_are_told_by_their_folders(tmp_path, lay):
    source = lay(tmp_path, "dog/a_000012.mp4", "cat/a.mp4", "cat/b_7.mp4", "b.mp4")
    listed = "video,start,label\ndog/a,12,x\ncat/a.mp4,12,y\ncat/b,7,z\nb.mp4,7,z\na_000012.mp4,12,w\n"
    (source / "list.csv").write_text(listed, encoding="utf-8")
    items = find(source)
    assert [(item.media.relative_to(source).as_posix(), item.start) for item in items] == [
        ("dog/a_000012.mp4", 0),
        ("cat/a.mp4", 12),
        ("cat/b_7.mp4", 0),
        ("b.mp4", 7),
        ("dog/a_000012.mp4", 0),
    ]


def test_urbansounds_files_are_cut_already(tmp_path, lay):
    source = lay(tmp_path, "fold1/100032-3-0-0.wav", "fold2/100263-2-0-117.wav")
    listed = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    listed += (
        "100032-3-0-0.wav,100032,0.0,0.3,1,1,3,dog_bark\n100263-2-0-117.wav,100263,58.5,62.5,1,2,2,siren\n"
    )
    (source / "UrbanSound8K.csv").write_text(listed, encoding="utf-8")
    assert [(item.media.parent.name, item.start, item.label, item.why) for item in find(source)] == [
        ("fold1", 0, "dog bark", ""),
        ("fold2", 0, "siren", ""),
    ]


def test_audiosets_and_vggsounds_names_are_found(tmp_path, lay):
    """Ids begin with - and hold _; a Y stands before them, and milliseconds behind."""
    names = {
        "-0049e-H5Uk": "Y-0049e-H5Uk.wav",
        "_a_b_c_d_e_": "Y_a_b_c_d_e__30000_40000.wav",
        "-1_2_3-4_5-": "-1_2_3-4_5-_30000_40000.wav",
        "Yabcdefghij": "Yabcdefghij.wav",
        "YabcdefghiY": "YYabcdefghiY_000030.mp4",
        "zzzzzzzzzzz": "",
    }
    source = lay(tmp_path, *filter(None, names.values()))
    listed = "# Segments csv created Sun Mar  5\n# YTID, start_seconds, end_seconds, label\n"
    listed += "".join(f"{name}, 30.000, 40.000, dog\n" for name in names)
    (source / "list.csv").write_text(listed, encoding="utf-8")
    items = find(source)
    assert [item.media.name if item.media else "" for item in items] == list(names.values())
    assert [item.start for item in items[:5]] == [30, 0, 0, 30, 0]
    assert [item.id for item in items] == [f"{name}_000030" for name in names]


def test_names_with_milliseconds_are_parts(tmp_path, lay):
    ids = ["-a_b_5000_15000", "b_5000_15000", "c_d_0_10000", "Y-0049e-H5Uk", "take_1_2", "x_1000_900000"]
    files = ["-a_b_5000_15000.wav", "b.mp4", "c_d_000000.mp4", "-0049e-H5Uk.flac", "take.wav", "x.wav"]
    source = lay(tmp_path, *files, "frames/b/0.jpg")
    (source / "list.csv").write_text("id,label\n" + "".join(f"{id},dog\n" for id in ids), encoding="utf-8")
    items = find(source)
    assert [item.media and item.media.name for item in items] == [*files[:4], None, None]
    assert [item.start for item in items[:4]] == [0, 5, 0, 0]
    assert [path.name for path in items[1].pictures] == ["0.jpg"]
