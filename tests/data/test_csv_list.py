"""Lists of data sets: the names of their columns, and what stands in them."""

import pytest

from aai.data.csv_list import ListedClip, read_list


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
    assert read_list(tmp_path / "list.csv") == [ListedClip("7061-6-0-0.wav", None, "gun_shot", "")]


def test_a_start_that_is_no_second_of_a_file_is_none(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,start,label\na,nan,rain\nb,inf,rain\nc,soon,rain\nd,2.5,rain\ne,1e306,rain\n", encoding="utf-8"
    )
    assert [row.start for row in read_list(tmp_path / "list.csv")] == [None, None, None, 2.5, None]
