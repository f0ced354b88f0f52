"""Tiny clips and an encoder for stage 1's tests."""

import math

import pytest
import torch
from PIL import Image

from aai.align.features import encode
from aai.align.train import Pairs
from aai.audio import Sound, save
from aai.data.clips import scan
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder

TINY = CAVMAEConfig(
    dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16, seconds=0.64
)
COLOURS = {"low_hum": (200, 40, 40), "high_whistle": (40, 40, 200)}
PITCH = {"low_hum": 150, "high_whistle": 3000}


@pytest.fixture(scope="session")
def tiny():
    """The sizes of the tests' CAV-MAE."""
    return TINY


@pytest.fixture(scope="session")
def tone():
    """tone(hertz, seconds, seed): a noisy sine."""
    return make_tone


@pytest.fixture(scope="session")
def make_encoder():
    """make_encoder(**options of CAVMAE): always the same weights; it knows the classes of `folder`."""

    def make(**options):
        torch.manual_seed(0)
        model = CAVMAE(TINY, **options).requires_grad_(False)
        return CAVMAEEncoder(model, ["low hum", "high whistle", "wind"], torch.eye(16)[:3])

    return make


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two classes of four clips, two pictures each; clip 0 has a picture of its own, clip 3 is 1.6 s long."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(4):
            save(
                make_tone(PITCH[name] * (1 + 0.1 * i), 1.6 if i == 3 else 0.64, i), folder / name / f"{i}.wav"
            )
        Image.new("RGB", (40, 32), colour).save(folder / name / "view.png")
        Image.new("RGB", (20, 60), colour).save(folder / name / "0_first.jpg")
    (folder / "notes.txt").write_text("no class", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def features(folder, make_encoder):
    """The folder's clips, encoded in memory, with the pictures' tokens."""
    return encode(make_encoder(), scan(folder), keep_tokens=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CAVMAE(TINY).eval()


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    fbanks = torch.randn(8, TINY.frames, TINY.mel_bins, generator=generator)
    f_t, f_v = (torch.randn(8, TINY.dim, generator=generator) for _ in range(2))
    return Pairs(fbanks, f_t, f_v, torch.arange(8))


def make_tone(hertz, seconds, seed):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * 16000)) / 16000
    wave = 0.3 * torch.sin(2 * math.pi * hertz * time) + 0.01 * torch.randn(len(time), generator=generator)
    return Sound(wave[None], 16000)
