"""SoundWorld's parts at a size that is made in no time."""

import pytest
import torch

from aai.soundworld import pictures as pictures_
from aai.soundworld.build.text import build_tokenizer
from aai.soundworld.models import PatchAutoencoder
from aai.soundworld.text import CaptionEncoder, build_text_tower, load_tokenizer


@pytest.fixture(scope="session")
def scenes():
    return pictures_.random_scenes(60, seed=3)


@pytest.fixture(scope="session")
def pictures(scenes):
    return pictures_.draw_all(scenes, workers=1)


@pytest.fixture(scope="session")
def caption_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(0)
    return CaptionEncoder(tokenizer, build_text_tower(tokenizer).eval().requires_grad_(False))


@pytest.fixture(scope="session")
def autoencoder(pictures):
    made = PatchAutoencoder()
    patches = (pictures.float() / 127.5 - 1).unfold(2, 8, 8).unfold(3, 8, 8)
    kept = made.fit_linear(patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 192), whitening=0.6)
    assert kept > 0.93
    return made
