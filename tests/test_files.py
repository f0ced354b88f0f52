"""Questions about paths that raise for none of them."""

import os

import pytest

from aai import audio, files, token
from aai.align import encoder
from aai.errors import InputError

ODD = ["x" * 300, "a\0b", "caf\udce9", "", "loop", "file/below"]


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
@pytest.mark.parametrize("name", ODD)
def test_a_path_that_cannot_be_asked_about_is_none(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    assert not files.is_file(name) and not files.is_dir(name)
    assert files.is_file("file") and files.is_dir(".")
    for read in (audio.load, token.load, encoder.load):
        with pytest.raises(InputError):
            read(name)
