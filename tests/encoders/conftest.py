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


@pytest.fixture(scope="session")
def formula():
    """formula(model) fills a model with weights that any machine makes the same, and returns it: those by
    which the numbers of `test_audioclip.py`, `test_sgsim.py` and `test_wav2clip.py` were recorded from the
    published code."""
    return fill_by_formula


def fill_by_formula(model):
    state = model.state_dict()
    for name, tensor in state.items():
        if not tensor.is_floating_point() or name.endswith("window") or not tensor.numel():
            continue
        # By the name and not the place: one side may have more tensors than the other.
        turn = sum(name.removeprefix("audio.").encode())
        wave = as_if_by_chance(tensor.numel(), turn)
        wave = wave.view(tensor.shape)
        if tensor.ndim > 1:
            wave = wave * (6 / tensor[0].numel()) ** 0.5
        elif name.endswith(("weight", "running_var")):
            wave = 1 + 0.2 * wave
        elif name.endswith(("fbsp.m", "fbsp.fb")):
            wave = 1 + 0.4 * wave
        elif name.endswith("fbsp.fc"):
            wave = torch.arange(tensor.numel()) + 0.3 * wave
        else:
            wave = 0.1 * wave
        tensor.copy_(wave)
    return model.eval()


def as_if_by_chance(count, turn):
    """Numbers in [-1, 1]."""
    return 2 * (torch.sin(12.9898 * torch.arange(count).double() + turn) * 43758.5453).frac().abs() - 1


@pytest.fixture(scope="session")
def chirp():
    """chirp(seconds, rate): a rising tone with noise, without which silent bands would be rounding errors,
    [1, T]."""
    return rising_tone


def rising_tone(seconds, rate):
    t = torch.arange(round(seconds * rate)).double() / rate
    tone = 0.3 * torch.sin(2 * torch.pi * (200 + 1500 * t / seconds) * t)
    return (tone + 0.05 * as_if_by_chance(len(t), 1))[None].float()
