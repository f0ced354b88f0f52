"""A small model as a picture model, and tokens for it."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def picture(small, pack):
    return pack.part("nodes.comfy.picture").ComfyPictureModel(small.model, small.clip, small.vae)


@pytest.fixture
def make_token(pack):
    """make_token(name, rows) -> a SoundToken of width 192 with random vectors of a word's size."""
    token = pack.part("aai.token")

    def make(name: str = "rain", rows: int = 1, width: int = 192, seed: int = 0):
        drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 0.03
        zero = torch.zeros(rows, width)
        return token.SoundToken(
            name=name, vectors={"clip_l": drawn}, f_a=drawn[0], f_adapter={"clip_l": zero},
            scale={"clip_l": 1.0}, loudness=-20.0, provenance={},
        )  # fmt: skip

    return make
