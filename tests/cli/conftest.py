"""The `aai` command in a folder of sounds and pictures."""

import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from PIL import Image

from aai import audio, cli
from aai.adapt.trainer import TokenTrainer
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.errors import InputError
from aai.soundworld.pictures import render
from aai.soundworld.sounds import synthesize
from bench.cavmae_decoder import Decoder, DecoderConfig, whole_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sounds: rain.wav, rain1.wav (the same) and dog.flac; pictures/ of plain colours in three modes; photos/
    of rain (one of them rain1's own), a dog and fire; and a folder with nothing in it."""
    folder = tmp_path_factory.mktemp("cli")
    for name in ("rain", "rain1"):
        audio.save(synthesize("rain", 0.8, seed=5), folder / f"{name}.wav")
    audio.save(synthesize("dog", 0.6, seed=5), folder / "dog.flac")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i, (mode, size) in enumerate((("RGB", (200, 90)), ("RGBA", (64, 64)), ("L", (31, 140)))):
        Image.new(mode, size, 60 * i).save(pictures / f"{i}.png")
    (folder / "photos" / "more").mkdir(parents=True)
    for name, event in (("rain1", "rain"), ("wet", "rain"), ("more/pet", "dog"), ("hot", "fire")):
        picture = render("city", event, 0.8, 3 if name == "wet" else 4)
        Image.fromarray(picture).save(folder / "photos" / f"{name}.png")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def aai(folder, monkeypatch, capsys):
    """aai("hear", "rain.wav") -> exit code, stdout, stderr; run in `folder`."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def untrained(monkeypatch):
    """A token's first step is an error."""

    def step(self):
        raise InputError("A step was trained.")

    monkeypatch.setattr(TokenTrainer, "step", step)


@pytest.fixture(scope="session")
def trained_token(tmp_path_factory):
    """A token of rain, trained for three steps."""
    folder = tmp_path_factory.mktemp("token")
    path = folder / "rain.safetensors"
    audio.save(synthesize("rain", 0.8, seed=5), folder / "rain.wav")
    arguments = ["token", str(folder / "rain.wav"), "-o", str(path), "--train-steps", "3", "--json"]
    assert cli.main(arguments) == 0
    return path


@pytest.fixture(scope="module")
def rain_token(folder, trained_token):
    """`trained_token` as rain.safetensors in `folder`."""
    return Path(shutil.copy(trained_token, folder))


@pytest.fixture(scope="session")
def tiny_cavmae():
    """The sizes of a CAV-MAE that trains in no time."""
    return CAVMAEConfig(
        dim=32, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16, seconds=0.64
    )


@pytest.fixture(scope="session")
def public_file(tmp_path_factory, tiny_cavmae):
    """public.pth of such a CAV-MAE, as upstream publishes a pre-trained one."""
    path = tmp_path_factory.mktemp("public") / "public.pth"
    torch.manual_seed(0)
    tensors = whole_file(CAVMAE(tiny_cavmae), Decoder(tiny_cavmae, DecoderConfig(dim=8, depth=1, heads=2)))
    torch.save(OrderedDict(tensors), path)
    return path
