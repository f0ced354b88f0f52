"""A film's folder of pictures is one process's at a time."""

import os
import subprocess
import sys
import time

import pytest

from aai.errors import InputError
from aai.inject.frame_lock import LOCK, WRITTEN, check_free, held, is_running


@pytest.fixture
def other():
    """Another process that goes on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def test_a_folder_is_held_until_its_process_ends(tmp_path, other):
    assert is_running(other.pid)
    (tmp_path / LOCK).write_text(str(other.pid), encoding="utf-8")
    with pytest.raises(InputError, match=rf"Another process \({other.pid}\) draws the same film"):
        check_free(tmp_path)
    with pytest.raises(InputError, match="Another process"), held(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text(encoding="utf-8") == str(other.pid)
    other.stdin.close()
    other.wait()
    assert not is_running(other.pid)
    with held(tmp_path):
        assert (tmp_path / LOCK).read_text(encoding="utf-8") == str(os.getpid())
    assert not (tmp_path / LOCK).exists()


def test_a_file_without_an_id_holds_while_it_may_still_get_one(tmp_path):
    (tmp_path / LOCK).touch()
    with pytest.raises(InputError, match="just begun"):
        check_free(tmp_path)
    before = time.time() - 2 * WRITTEN
    os.utime(tmp_path / LOCK, (before, before))
    check_free(tmp_path)


def test_a_process_of_the_same_id_before_this_one_holds_nothing(tmp_path):
    (tmp_path / LOCK).write_text(str(os.getpid()), encoding="utf-8")
    check_free(tmp_path)
