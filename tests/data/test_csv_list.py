"""Lists of data sets: the names of their columns, and what stands in them."""

import pytest

from aai.data.csv_list import ListedClip, read_labels, read_list
from aai.errors import InputError


@pytest.mark.parametrize(
    "heads",
    ["file_name,class", "fname,label", "slice_file_name,class", "filename,category", "audio,label",
     "fname,class_name", "audio_path,labels", "FileName,ClassName", "file-name,class-label", "ytid,labels",
     "File,Class Name"],
)  # fmt: skip
def test_heads_of_lists_as_sets_have_them(tmp_path, heads):
    (tmp_path / "list.csv").write_text(f"fold,{heads}\n1,a.wav,dog\n", encoding="utf-8")
    assert read_list(tmp_path / "list.csv") == [ListedClip("a.wav", None, "dog", "")]


def test_a_path_goes_before_an_id_and_a_name_before_a_number(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,label,class_name,path\n1,0,dog,dog/1.wav\n1,1,cat,cat/1.wav\n2,1,,\n", encoding="utf-8"
    )
    read = read_list(tmp_path / "list.csv")
    assert [row[:3] for row in read] == [
        ("dog/1.wav", None, "dog"),
        ("cat/1.wav", None, "cat"),
        ("2", None, "1"),
    ]


@pytest.mark.parametrize("head", ["end", "end_seconds", "End Time", "stop"])
def test_an_end_is_read_where_the_start_is_the_files_own(tmp_path, head):
    (tmp_path / "list.csv").write_text(f"id,start,{head},label\na,2,3.5,rain\nb,2,,rain\n", encoding="utf-8")
    assert [row.end for row in read_list(tmp_path / "list.csv")] == [3.5, None]
    # UrbanSound8K's seconds are those of the recordings that its files were cut out of.
    cut = f"slice_file_name,start,{head},class\n7061-6-0-0.wav,30.5,34.5,gun_shot\n"
    (tmp_path / "list.csv").write_text(cut, encoding="utf-8")
    assert read_list(tmp_path / "list.csv") == [ListedClip("7061-6-0-0.wav", None, "gun shot", "")]


@pytest.mark.parametrize(
    "start", ["nan", "inf", "soon", "1e306", "12 s", "1:5", "1:60", "1:60:00", ":30", "1:-5"]
)
def test_a_start_that_is_no_second_of_a_file_is_told(tmp_path, start):
    (tmp_path / "list.csv").write_text(f"id,start,label\na,{start},rain\nb,,rain\n", encoding="utf-8")
    told, plain = read_list(tmp_path / "list.csv")
    assert (told.start, told.why) == (None, f"its start '{start}' is no number of seconds")
    assert (plain.start, plain.why) == (None, "")
    (tmp_path / "list.csv").write_text(f"id,start,end,label\na,2,{start},rain\n", encoding="utf-8")
    assert read_list(tmp_path / "list.csv")[0].why == f"its end '{start}' is no number of seconds"


@pytest.mark.parametrize(
    "text, seconds",
    [("2.5", 2.5), ("0:30", 30), ("1:30", 90), ("01:30.5", 90.5), ("90:00", 5400), ("1:02:03", 3723)],
)
def test_times_may_have_minutes_and_hours(tmp_path, text, seconds):
    (tmp_path / "list.csv").write_text(f"id,start,end,label\na,{text},{text},rain\n", encoding="utf-8")
    assert read_list(tmp_path / "list.csv") == [ListedClip("a", seconds, "rain", "", seconds)]
    # VGGSound's way, without a first line.
    (tmp_path / "list.csv").write_text(f"a,{text},rain,train\n", encoding="utf-8")
    assert read_list(tmp_path / "list.csv") == [ListedClip("a", seconds, "rain", "train")]


def test_labels_are_lines_or_the_first_of_each(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_bytes(
        b'\xef\xbb\xbfmale speech, man speaking\r\n"wind, howling",3\r\n dog \r\n\r\nrain,1050\r\n'
    )
    assert {"male speech, man speaking", "wind, howling", "dog", "rain"} <= read_labels(labels)
    with pytest.raises(InputError, match="no file"):
        read_labels(tmp_path / "nowhere.txt")


AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=5
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/t/dd00125"
--BfvyPmVMo, 20.000, 30.000, "/m/068hy"
-0049e-H5Uk, 30.000, 40.000, "/m/068hy,/m/03l9g"
"""


def test_audiosets_own_list_is_read_with_its_names(tmp_path):
    (tmp_path / "list.csv").write_text(AUDIOSET, encoding="utf-8")
    with pytest.raises(InputError, match="AudioSet's codes .*068hy.*put AudioSet's class_labels_indices.csv"):
        read_list(tmp_path / "list.csv")
    names = 'index,mid,display_name\n0,/m/068hy,"Domestic animals, pets"\n'
    names += "1,/t/dd00125,Livestock\n2,/m/03l9g,Hammer\n"
    (tmp_path / "class_labels_indices.csv").write_text(names, encoding="utf-8")
    assert [(row.name, row.start, row.end, row.label) for row in read_list(tmp_path / "list.csv")] == [
        ("--4gqARaEJE", 0, 10, "Livestock"),
        ("--BfvyPmVMo", 20, 30, "Domestic animals, pets"),
        ("-0049e-H5Uk", 30, 40, "Hammer"),
    ]


def test_an_end_beside_the_start_is_no_label(tmp_path):
    (tmp_path / "list.csv").write_text("a,1,2.5,rain\nb,3,4,wind,test\n", encoding="utf-8")
    assert [(row.start, row.end, row.label, row.split) for row in read_list(tmp_path / "list.csv")] == [
        (1, 2.5, "rain", ""),
        (3, 4, "wind", "test"),
    ]


def test_the_rarest_of_several_labels_is_kept(tmp_path):
    listed = (
        'fname,labels,split\n1,"Bark,Dog,Animal",Train\n2,"Dog,Animal",VALIDATION\n3,"Cat_purr,Animal",x\n'
    )
    (tmp_path / "list.csv").write_text(listed, encoding="utf-8")
    assert [(row.label, row.split) for row in read_list(tmp_path / "list.csv")] == [
        ("Bark", "train"),
        ("Dog", "val"),
        ("Cat purr", "x"),
    ]
    (tmp_path / "list.csv").write_text('id,labels\n1,"dog barking, growling"\n', encoding="utf-8")
    assert read_list(tmp_path / "list.csv")[0].label == "dog barking, growling"


def test_labels_are_one_however_a_system_has_written_them(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,label\n1,cafe\u0301\n2,caf\u00e9\n3, caf\u00e9  \n", encoding="utf-8"
    )
    assert {row.label for row in read_list(tmp_path / "list.csv")} == {"caf\u00e9"}
