"""The joint stream and the decoder that the comparison with the published code needs."""

import pytest
import torch

from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from bench.cavmae_decoder import Decoder, DecoderConfig, forward_joint

TINY = CAVMAEConfig(dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16)
SMALL = DecoderConfig(dim=8, depth=2, heads=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CAVMAE(TINY).eval()


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 64, 32, generator=generator), torch.randn(2, 3, 32, 32, generator=generator)


def everything(count):
    return torch.arange(count).expand(2, -1)


def test_both_modalities_meet_in_one_sequence(model):
    fbanks, images = inputs()
    joint = forward_joint(model, fbanks, images, everything(8), everything(4))
    assert joint.shape == (2, 12, 16)
    other = forward_joint(model, fbanks, images + 1, everything(8), everything(4))
    assert not torch.allclose(joint[:, :8], other[:, :8], atol=1e-4)
    some = forward_joint(model, fbanks, images, torch.tensor([[5, 2]] * 2), torch.tensor([[3]] * 2))
    assert some.shape == (2, 3, 16)


def test_the_decoder_gives_every_patch_whatever_order_it_was_told(model):
    torch.manual_seed(2)
    decoder = Decoder(TINY, SMALL).eval()
    fbanks, images = inputs()
    keep_a, keep_v = torch.tensor([[5, 2, 7], [0, 1, 6]]), torch.tensor([[3, 0], [1, 2]])
    heard = forward_joint(model, fbanks, images, keep_a, keep_v)
    a, v = decoder(heard, keep_a, keep_v)
    assert a.shape == (2, 8, 256) and v.shape == (2, 4, 768)
    turned = forward_joint(model, fbanks, images, keep_a.flip(1), keep_v)
    again, _ = decoder(turned, keep_a.flip(1), keep_v)
    torch.testing.assert_close(a, again, rtol=1e-4, atol=1e-5)
