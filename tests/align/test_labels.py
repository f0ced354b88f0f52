"""Words for sounds: our own list, and people's."""

import pytest

from aai.align.labels import LABELS, TEMPLATES, read, unique
from aai.errors import InputError


def test_own_captions_are_read_once_each(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(
        "# of my garden\nA wren on the fence.\n\n  a  wren on the fence\nthe neighbour's mower\n",
        encoding="utf-8",
    )
    assert read(path) == ["a wren on the fence", "the neighbour's mower"]
    path.write_bytes(b"\xff\xfe\x00bad")
    for bad in (path, tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(InputError, match=bad.name):
            read(bad)
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(InputError, match="no captions"):
        read(path)


def test_captions_of_windows_begin_with_a_mark(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfa dog\r\na cat\r\n")
    assert read(path) == ["a dog", "a cat"]
    path.write_bytes(b"\xef\xbb\xbf# of my garden\r\na dog\r\n")
    assert read(path) == ["a dog"]


def test_our_labels_are_clean():
    assert len(LABELS) > 300 and len(set(LABELS)) == len(LABELS)
    assert all(label == " ".join(label.split()) and label for label in LABELS)


def test_a_label_stands_once_however_it_is_written():
    assert unique([" Rain ", "rain.", "a  dog", "", " . "]) == ["rain", "a dog"]
    assert all(template.format(label="rain").count("rain") == 1 for template in TEMPLATES)
