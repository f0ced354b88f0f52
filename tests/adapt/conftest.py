"""A sound, and pictures that a token can learn."""

from __future__ import annotations

import pytest
import torch

from aai.picture.diffusers import DiffusersPictureModel


@pytest.fixture
def model(make_parts):
    return DiffusersPictureModel(**vars(make_parts()))


@pytest.fixture
def f_a():
    return torch.randn(32, generator=torch.Generator().manual_seed(7)) * 5


@pytest.fixture
def images():
    """Three flat pictures, red, green and blue: something to learn."""
    return torch.eye(3)[:, :, None, None].expand(3, 3, 16, 16).contiguous()
