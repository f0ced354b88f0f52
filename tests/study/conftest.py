"""A user's own world at a size that draws in no time: real classes, random weights."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from aai import audio, image
from aai.adapt.train import TrainSettings
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.encoders.wav2clip import Wav2CLIPTower
from aai.picture.diffusers import DiffusersPictureModel
from aai.study.setting import folder_setting


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """sounds/{rain,dog}/{class}{1,2}.wav of noise; pictures, some called like a sound."""
    root = tmp_path_factory.mktemp("world")
    generator = torch.Generator().manual_seed(0)
    for name in ("rain", "dog"):
        (root / "sounds" / name).mkdir(parents=True)
        for i in (1, 2):
            noise = torch.randn(1, 16000, generator=generator) * 0.1 * i
            audio.save(audio.Sound(noise.clamp(-1, 1), 16000), root / "sounds" / name / f"{name}{i}.wav")
    (root / "sounds" / "empty").mkdir()
    (root / "pictures").mkdir()
    for i in range(14):
        name = f"{i}.png" if i > 1 else ("rain1_3.png", "dog1.png")[i]
        pixels = (torch.rand(24, 30, 3, generator=generator) * 255).byte().numpy()
        Image.fromarray(pixels).save(root / "pictures" / name)
    return root


@pytest.fixture(scope="session")
def picture_model(make_parts):
    return DiffusersPictureModel(**vars(make_parts()))


@pytest.fixture(scope="session")
def encoder(picture_model):
    """Small, with random weights; its words are the picture model's, as after Align."""
    torch.manual_seed(0)
    config = CAVMAEConfig(dim=32, depth_a=1, depth_v=1, heads=2, frames=128, image_size=32, seconds=1.0)
    model = CAVMAE(config).eval().requires_grad_(False)
    words = picture_model.embed_text(["rain", "dog"])["clip_l"].detach()
    return CAVMAEEncoder(model, ["rain", "dog"], words, name="small")


@pytest.fixture(scope="session")
def setting(folders, encoder, picture_model):
    made = folder_setting(picture_model, encoder, folders / "sounds", folders / "pictures")
    return replace(made, sampling_steps=2)


@pytest.fixture
def brief():
    """Two steps are a training here."""
    return TrainSettings(steps=2, batch=1)


@pytest.fixture
def study(tmp_path):
    """A comparison's folder: two sounds, three conditions, two seeds, two pictures each."""
    cells = tmp_path / "compare" / "cells"
    cells.mkdir(parents=True)
    (cells / "settings.json").write_text("{}", encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    for subject in ("rain", "a dog"):
        for condition in ("text only", "textual inversion", "ours"):
            for seed in range(2):
                stem = f"{subject} {condition} {seed}".replace(" ", "-")
                image.save(torch.rand(3, 8, 16, generator=generator), cells / f"{stem}.png")
                notes = {
                    "condition": condition,
                    "subject": subject,
                    "seed": seed,
                    "pictures": 2,
                    "values": {},
                }
                (cells / f"{stem}.json").write_text(json.dumps(notes), encoding="utf-8")
    (tmp_path / "compare" / "sounds").mkdir()
    (tmp_path / "compare" / "sounds" / "a_dog.wav").write_bytes(b"RIFF")
    return tmp_path / "compare"


@pytest.fixture(scope="session")
def embedded():
    """embedded(page) -> the study that a page holds."""

    def read(page) -> dict:
        text = page.read_text(encoding="utf-8")
        return json.loads(re.search(r'id="study">(.*?)</script>', text, re.S)[1])

    return read


@pytest.fixture(scope="session")
def wav2clip_weights(tmp_path_factory):
    """Wav2CLIP's checkpoint as it is published, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("wav2clip") / "Wav2CLIP.pt"
    torch.save(Wav2CLIPTower().state_dict(), path)
    return path
