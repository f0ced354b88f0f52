"""Films in files: what players find in them, in bounded memory, and a sentence where none can be written."""

import av
import numpy as np
import pytest
import torch

from aai import video
from aai.audio import SURROUND_5_1, Sound
from aai.errors import InputError


def pictures(count, size=(32, 48)):
    for number in range(count):
        yield np.full((*size, 3), 20 * (number % 12), np.uint8)


def blocks(seconds, rate=22050, channels=2, layout=None):
    for number in range(seconds):
        t = torch.arange(rate) / rate + number
        yield Sound((0.5 * torch.sin(2 * torch.pi * 440 * t)).expand(channels, -1), rate, layout)


def opened(path):
    with av.open(str(path)) as container:
        frames = [(f.time, f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return frames, None
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], 1)
    return frames, sound


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.MOV"])
def test_a_film_has_its_pictures_in_time_and_its_sound(tmp_path, name):
    video.write(tmp_path / name, pictures(15), 7.5, blocks(2))
    frames, sound = opened(tmp_path / name)
    assert len(frames) == 15
    for number, (time, grey) in enumerate(frames):
        assert time == pytest.approx(number / 7.5, abs=0.002) and grey == pytest.approx(
            20 * (number % 12), abs=4
        )
    assert sound.shape[0] == 2 and sound.shape[1] == pytest.approx(2 * 48000, abs=3000)
    assert abs(sound).max() == pytest.approx(0.5, abs=0.06)
    assert video.is_ours(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("channels", "layout"), [(1, None), (6, SURROUND_5_1), (6, None), (11, None)])
def test_a_film_takes_any_sound(tmp_path, channels, layout):
    video.write(tmp_path / "film.mp4", pictures(4), 4, blocks(1, 44100, channels, layout))
    assert opened(tmp_path / "film.mp4")[1].shape[0] == min(channels, 2)


def test_a_film_may_be_silent(tmp_path):
    video.write(tmp_path / "film.mp4", pictures(3), 4)
    assert opened(tmp_path / "film.mp4")[1] is None
    assert not video.is_ours(__file__) and not video.is_ours(tmp_path)


def test_a_film_says_how_its_colours_are_encoded(tmp_path):
    """Its red is red by the matrix that the file names, at the sizes for which players take another."""
    red = np.zeros((720, 1280, 3), np.uint8)
    red[..., 0] = 255
    video.write(tmp_path / "red.mp4", [red], 4)
    with av.open(str(tmp_path / "red.mp4")) as container:
        (frame,) = container.decode(video=0)
    assert (frame.colorspace, frame.color_range) == (video.BT601, video.LIMITED)
    np.testing.assert_allclose(frame.to_ndarray(format="rgb24").mean((0, 1)), (255, 0, 0), atol=4)


def test_pictures_and_sound_come_by_turns(tmp_path):
    asked = []

    def counted(items, kind):
        for item in items:
            asked.append(kind)
            yield item

    video.write(tmp_path / "film.mp4", counted(pictures(40), "p"), 4, counted(blocks(10), "s"))
    runs = "".join(asked).split("s")
    assert len(runs) == 11 and max(map(len, runs)) <= 8


def test_what_cannot_be_written_gets_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is no name of a film"):
        video.write(tmp_path / "film.gif", pictures(1), 4)
    with pytest.raises(InputError, match="cannot be saved"):
        video.write(tmp_path / "none" / "film.mp4", pictures(1), 4)
    monkeypatch.setattr(video, "PICTURES", ("nothing",))
    with pytest.raises(InputError, match="no codec nothing"):
        video.write(tmp_path / "film.mp4", pictures(1), 4)
    assert list(tmp_path.iterdir()) == []


def test_an_older_codec_does_too(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PICTURES", ("nothing", "mpeg4"))
    video.write(tmp_path / "film.mp4", pictures(8), 4, blocks(2))
    assert len(opened(tmp_path / "film.mp4")[0]) == 8
