"""A user's own world at a size that draws in no time: real classes, random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from aai import audio
from aai.adapt.train import TrainSettings
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder
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
