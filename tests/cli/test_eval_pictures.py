"""`aai eval pictures` on SoundWorld's own pictures, of the right sound and of a wrong one."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from aai import audio, cli
from aai.encoders.wav2clip import Wav2CLIPTower
from aai.soundworld.pictures import render
from aai.soundworld.sounds import unseen_sound

EVENTS = ("rain", "fire", "sea waves", "fireworks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """sounds/EVENT/EVENT1.wav; right/ has two pictures of each event, wrong/ another's, frames/ one."""
    folder = tmp_path_factory.mktemp("drawn")
    for number, event in enumerate(EVENTS):
        (folder / "sounds" / event).mkdir(parents=True)
        audio.save(unseen_sound(event, 900 + number), folder / "sounds" / event / f"{event}1.wav")
        for name, drawn, seeds in (
            ("right", event, (1, 2)),
            ("wrong", EVENTS[number - 1], (1, 2)),
            ("frames", event, (7,)),
        ):
            (folder / name).mkdir(exist_ok=True)
            for seed in seeds:
                picture = Image.fromarray(render("city", drawn, 0.8, seed))
                picture.save(folder / name / f"{event}1_{seed}.png")
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["eval", "pictures", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_right_pictures_are_above_the_wrong_ones(run, folder):
    arguments = ("right", "wrong", "--sounds", "sounds", "--frames", "frames")
    code, out, err = run(*arguments, "--json", "-o", "r.json")
    report = json.loads(out)
    assert code == 0 and report == json.loads((folder / "r.json").read_text(encoding="utf-8"))
    right, wrong = (row["figures"] for row in report["rows"])
    assert len(right) == 3 and right.keys() == wrong.keys()
    for name in right:
        assert right[name]["value"] > wrong[name]["value"] + 0.25, name
        assert right[name]["sounds"] == 4
    (ais,) = [figure for name, figure in right.items() if name.startswith("AIS")]
    assert ais["value"] >= 0.9 and report["rows"][0]["count"] == 8
    code, out, _ = run("right", "--sounds", "sounds")
    assert code == 0 and "8 pictures of 4 sounds" in out and "IIS" not in out


def test_bad_input_is_one_sentence(run, folder):
    torch.save(Wav2CLIPTower().state_dict(), folder / "Wav2CLIP.pt")
    for arguments, says in (
        (("nowhere", "--sounds", "sounds"), "no folder of pictures 'nowhere'"),
        (("right", "--sounds", "right"), "holds sounds"),
        (("right", "--sounds", "sounds", "--wav2clip", "Wav2CLIP.pt"), "give --clip as well"),
        (("right", "--sounds", "sounds", "--encoder", "Wav2CLIP.pt"), "sees no pictures"),
        (("right", "--sounds", "sounds", "--frames", "sounds"), "holds no picture"),
    ):
        code, out, err = run(*arguments)
        assert code == 2 and not out and says in err.splitlines()[-1], (arguments, err)
