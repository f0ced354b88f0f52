"""SoundWorld's own dataset on the disk."""

import pytest
from PIL import Image

from aai import audio
from aai.errors import InputError
from aai.soundworld.dataset import write
from aai.soundworld.sounds import intensity_of
from aai.soundworld.world import EVENTS


def test_each_class_has_sounds_and_pictures_of_its_strength(tmp_path):
    seen = []
    folder = write(tmp_path / "set", each=1, seconds=0.5, callback=lambda *done: seen.append(done))
    classes = sorted(path.name for path in folder.iterdir())
    assert len(classes) == 2 * len(EVENTS) and {"light rain", "strong rain", "a light dog"} <= set(classes)
    assert seen[-1] == (20, 20) and len(seen) == 20
    for name in ("light rain", "strong rain"):
        assert sorted(path.name for path in (folder / name).iterdir()) == ["0.jpg", "0.wav"]
        with Image.open(folder / name / "0.jpg") as picture:
            assert picture.size == (128, 128)
    quiet, loud = (audio.load(folder / f"{word} rain" / "0.wav") for word in ("light", "strong"))
    assert quiet.seconds == 0.5
    assert intensity_of(audio.loudness(quiet)) < 0.45 < intensity_of(audio.loudness(loud))


def test_a_folder_that_is_there_stays(tmp_path):
    (tmp_path / "mine.txt").touch()
    assert write(tmp_path) == tmp_path and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_stop_leaves_nothing_and_a_full_disk_gets_a_sentence(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", each=1, seconds=0.5, callback=stop)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="examples cannot be written"):
        write(tmp_path / "file" / "set", each=1, seconds=0.5)
