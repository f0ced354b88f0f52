"""`aai film`: a recording becomes a film, resumes where it was stopped, and says what it cannot do."""

import json
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image

from aai import audio, video
from aai.audio import Sound
from aai.inject.frame_store import LOCK, MARK
from aai.picture.diffusers import DiffusersPictureModel
from aai.soundworld.sounds import synthesize

ASKED = ("--source", "a city", "--edited", "a city under *", "--fps", "2", "--steps", "2", "--json")


@pytest.fixture(scope="module", autouse=True)
def sounds(folder):
    """story.wav: rain, silence, a dog, two seconds each; still.wav: silence; short.wav: half a second;
    click.wav: 0.05 s, which is too short to hear."""
    rain, dog = (synthesize(event, 0.8, seed=5).cut(1.0, 2.0).waveform for event in ("rain", "fire"))
    nothing = torch.zeros_like(rain)
    audio.save(Sound(torch.cat([rain, nothing, dog], 1), 16000), folder / "story.wav")
    audio.save(Sound(nothing, 16000), folder / "still.wav")
    audio.save(Sound(rain[:, :8000], 16000), folder / "short.wav")
    audio.save(Sound(rain[:, :800], 16000), folder / "click.wav")


def frames_of(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_recording_becomes_a_film(aai, folder):
    code, out, err = aai("film", "story.wav", *ASKED, "-o", "story.mp4", "--release", "0")
    assert code == 0, err
    report = json.loads(out)
    rows = report["frames"]
    assert [row["time"] for row in rows] == [0.25 + 0.5 * i for i in range(12)]
    assert {row["word"] for row in rows[:3]} == {"rain"} and rows[5]["lufs"] is None and rows[5]["scale"] == 0
    assert len(frames_of(folder / "story.mp4")) == 12 and report["drawn"] == report["pictures"] <= 9
    with av.open(str(folder / "story.mp4")) as container:
        assert container.streams.audio[0].duration * container.streams.audio[0].time_base > 5.9
    assert not (folder / "story.mp4.parts").exists()


def test_a_folder_gets_the_frames_and_a_silent_sound_its_scene(aai, folder):
    code, out, err = aai("film", "still.wav", *ASKED, "-o", "still", "--seed", "3")
    assert code == 0, err
    names = sorted(path.name for path in (folder / "still").iterdir())
    assert names == ["0000.png", "0001.png", "0002.png", "0003.png"]
    # Of a longer film that stands there, no frame is left; what is another's is.
    shutil.copy(folder / "still" / "0003.png", folder / "still" / "0007.png")
    Image.new("RGB", (8, 8)).save(folder / "still" / "0008.png")
    aai("generate", "--prompt", "a city", "--steps", "2", "--seed", "3", "-o", "alone.png")
    first, alone = (np.array(Image.open(path)).astype(int) for path in
                    (folder / "still" / "0000.png", folder / "alone.png"))  # fmt: skip
    assert abs(first - alone).max() <= 2
    code, _, err = aai("film", "still.wav", *ASKED, "-o", "still")
    assert code == 2 and "0008.png' has a frame's name, but was not written by aai" in err
    assert aai("film", "short.wav", *ASKED, "-o", "still", "--force")[0] == 0
    left = sorted(path.name for path in (folder / "still").iterdir())
    assert left == ["0000.png", "0008.png"]


def test_a_films_own_frames_are_replaced(aai, folder):
    for sound, frames in (("still.wav", 4), ("short.wav", 1)):
        code, _, err = aai("film", sound, *ASKED, "-o", "frames")
        assert code == 0, err
        # What no frame is called is left alone.
        Image.new("RGB", (8, 8)).save(folder / "frames" / "mine.png")
        assert len(list((folder / "frames").iterdir())) == frames + 1


def test_a_stopped_film_resumes(aai, folder, monkeypatch):
    sample, drawn = DiffusersPictureModel.sample, []

    def stopping(self, *arguments, **settings):
        if len(drawn) == 1:
            drawn.append(None)
            raise KeyboardInterrupt
        drawn.append(settings["edit"].rows)
        return sample(self, *arguments, **settings)

    monkeypatch.setattr(DiffusersPictureModel, "sample", stopping)
    asked = ("film", "story.wav", *ASKED, "-o", "again.mkv", "--chunk", "2")
    code, _, err = aai(*asked)
    assert code == 130 and "the same command resumes" in err and not (folder / "again.mkv").exists()
    kept = len(list((folder / "again.mkv.parts").glob("*.png")))
    assert kept == 3  # the source and two shots
    code, out, err = aai(*asked)
    assert code == 0, err
    report = json.loads(out)
    assert report["drawn"] == report["pictures"] - 2
    assert len(frames_of(folder / "again.mkv")) == 12


@pytest.mark.parametrize(("output", "kept"), [("two.mp4", "two.mp4.parts"), ("two", "two/.parts")])
def test_a_film_that_another_process_draws_is_refused(aai, folder, output, kept):
    parts, asked = folder / kept, ("film", "short.wav", *ASKED, "-o", output)
    parts.mkdir(parents=True)
    (parts / MARK).touch()
    hold = (
        "import sys, filelock as f; own = f.FileLock(sys.argv[1]); own.acquire(); print(flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(parts / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        code, out, err = aai(*asked)
        other.kill()
    assert code == 2 and not out and err.count("\n") == 1
    assert "Another process draws the same film" in err and (parts / LOCK).exists()
    # It has been killed, and its file stays.
    code, _, err = aai(*asked)
    assert code == 0 and not parts.exists(), err


def test_a_folder_in_the_place_of_the_pictures_is_left_alone(aai, folder):
    (folder / "mine" / ".parts").mkdir(parents=True)
    (folder / "mine" / ".parts" / "diary.txt").touch()
    code, _, err = aai("film", "short.wav", *ASKED, "-o", "mine")
    assert code == 2 and "was not made by aai" in err and (folder / "mine" / ".parts" / "diary.txt").exists()


def test_each_cut_is_a_new_scene(aai, folder):
    asked = ("film", "story.wav", *ASKED, "--release", "0", "--hold", "0.2")
    assert aai(*asked, "-o", "one")[0] == 0
    assert aai(*asked, "-o", "new", "--new-scenes")[0] == 0
    one, new = ([np.array(Image.open(path)).astype(int) for path in sorted((folder / name).glob("*.png"))]
                for name in ("one", "new"))  # fmt: skip
    # The first scene is the same; the second has a noise of its own.
    assert abs(one[0] - new[0]).max() <= 2 and abs(one[-1] - new[-1]).max() > 20


def test_a_tokens_adapter_takes_every_sound(aai, folder, trained_token):
    code, out, err = aai(
        "film", "short.wav", *ASKED, "-o", "token.mp4", "--token", str(trained_token), "--blend-changes"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--fps", "0"), "make no film"),
        (("--fps", "240"), "make no film"),
        (("--window", "0"), "cannot be taken"),
        (("--hold", "-1"), "out of range"),
        (("-o", "film.gif"), "no name of a film"),
        (("-o", "nowhere/film.mp4"), "no folder"),
        (("-o", "rain.wav/film"), "is a file"),
        (("--edited", "a city"), "no place for the sound"),
        (("--source", "a * city"), "changes from frame to frame"),
        (("--token", "nothing.safetensors"), "no sound token"),
        (("--adapter", "nothing.safetensors"), "nothing.safetensors"),
        (("--mask", "rain.wav"), "cannot be read as a picture"),
        (("--model", "empty"), "empty"),
        (("--cross-until", "1.5"), "cross window"),
        (("--blend", "sea"), "not in the prompt"),
        (("--edited", "rain " * 80 + "*"), "prompt is too long"),
        (("--negative", "a <dog>"), "names <dog>"),
        (("--start", "9"), "Nothing is left"),
        ((), "too short to hear"),
    ],
)
def test_what_makes_no_film_is_told_before_the_sound_is_heard(aai, folder, arguments, sentence):
    code, _, err = aai("film", "click.wav", *ASKED, "-o", "wrong.mp4", *arguments)
    assert code == 2 and sentence in err and err.count("\n") == 1
    assert not (folder / "wrong.mp4.parts").exists()


def test_missing_sounds_and_codecs_get_a_sentence(aai, folder, monkeypatch):
    code, _, err = aai("film", "nothing.wav", *ASKED, "-o", "wrong.mp4")
    assert code == 2 and "no file 'nothing.wav'" in err
    monkeypatch.setattr(video, "PICTURES", ("nothing",))
    code, _, err = aai("film", "short.wav", *ASKED, "-o", "wrong.mp4")
    assert code == 2 and "name a folder for the frames" in err
    assert aai("film", "short.wav", *ASKED, "-o", "uncoded")[0] == 0
