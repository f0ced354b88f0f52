"""Small data sets: videos with a tone and growing grey, sounds with pictures, and empty files."""

import math
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from aai import audio

RATE, FPS = 22050, 10
LIST = """a,12,"dog, barking",train
b,1,rain,test
mute,0,rain,train
torn,0,rain,train
away,3,rain,train
a,12,rain,train
blind,0,rain,train
"""


def _write_video(path, seconds=1.2, pitch=440.0, sound=True, pictures=True, size=(64, 48)):
    """A video whose frame at t seconds is grey of 200 t / seconds, and whose sound is a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS) if pictures else None
        voice = container.add_stream("mp2", rate=RATE, layout="mono") if sound else None
        if video:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            for i in range(round(seconds * FPS)):
                grey = np.full((size[1], size[0], 3), round(200 * i / (seconds * FPS)), np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(grey)))
            container.mux(video.encode(None))
        if voice:
            time = np.arange(round(seconds * RATE)) / RATE
            noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))
            wave = ((0.4 * np.sin(2 * math.pi * pitch * time) + noise) * 32767).astype(np.int16)
            for start in range(0, len(wave), 1152):
                frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1152], "s16", "mono")
                frame.sample_rate, frame.pts = RATE, start
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))


@pytest.fixture(scope="session")
def write_video():
    return _write_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory, write_video):
    """VGGSound's way: cut clips, a whole video, one without sound, one torn, one without pictures."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a_000012.mp4", 1.2)
    write_video(folder / "b.mp4", 3.0, pitch=900)
    write_video(folder / "mute_000000.mp4", sound=False)
    (folder / "torn_000000.mp4").write_bytes((folder / "b.mp4").read_bytes()[:200])
    (folder / "deeper").mkdir()
    write_video(folder / "deeper" / "blind_0.mkv", pictures=False)
    (folder / "vggsound.csv").write_text(LIST, encoding="utf-8")
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def tree():
    return _tree


def _greys(clip) -> list[int]:
    return [round(float(clip.load_picture(i).mean() * 255)) for i in range(len(clip.pictures))]


@pytest.fixture(scope="session")
def greys():
    return _greys


def _lay(folder: Path, *paths: str) -> Path:
    """Empty files, which are only to be found."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


@pytest.fixture(scope="session")
def lay():
    return _lay


def _lay_real(folder: Path, pitches: dict[str, int]) -> Path:
    """Tones of a second, each with a picture of its own name whose grey is a tenth of its pitch in Hz."""
    for name, pitch in pitches.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wave = 0.4 * torch.sin(2 * math.pi * pitch * torch.arange(16000) / 16000)[None]
        audio.save(audio.Sound(wave, 16000), folder / f"{name}.wav")
        Image.new("RGB", (32, 24), (pitch // 10,) * 3).save(folder / f"{name}.jpg")
    return folder


@pytest.fixture(scope="session")
def lay_real():
    return _lay_real


def _pitch(clip) -> int:
    return int(torch.fft.rfft(clip.load_sound().waveform[0]).abs().argmax())


@pytest.fixture(scope="session")
def pitch():
    return _pitch
