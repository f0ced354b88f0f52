"""The smallest CAV-MAE that has every part, and an encoder of it."""

import pytest
import torch

from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_encoder import CAVMAEEncoder


@pytest.fixture(scope="session")
def tiny():
    """The sizes of the tests' CAV-MAE."""
    return CAVMAEConfig(
        dim=16, depth_a=2, depth_v=1, heads=2, frames=96, image_size=32, patch=16, seconds=0.96
    )


@pytest.fixture
def encoder(tiny):
    torch.manual_seed(0)
    return CAVMAEEncoder(CAVMAE(tiny), ["rain", "dog", "clock"], torch.randn(3, 16), name="tiny")
