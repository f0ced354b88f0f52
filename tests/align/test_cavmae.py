"""CAV-MAE whole: the joint stream and the decoder beside the towers that alignment uses."""

import pytest
import torch

from aai.align.cavmae import CAVMAE, CAVMAEConfig
from aai.align.cavmae_decoder import Decoder, DecoderConfig, patches, reconstruction_loss

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


def test_patches_are_read_row_by_row_with_the_channel_last():
    x = torch.arange(3 * 32 * 48.0).view(1, 3, 32, 48)
    cut = patches(x)
    assert cut.shape == (1, 6, 768)
    for row in range(2):
        for column in range(3):
            square = x[0, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            assert torch.equal(cut[0, 3 * row + column], square.permute(1, 2, 0).flatten())


def test_both_modalities_meet_in_one_sequence(model):
    fbanks, images = inputs()
    joint = model.forward_joint(fbanks, images, everything(8), everything(4))
    assert joint.shape == (2, 12, 16)
    other = model.forward_joint(fbanks, images + 1, everything(8), everything(4))
    assert not torch.allclose(joint[:, :8], other[:, :8], atol=1e-4)
    some = model.forward_joint(fbanks, images, torch.tensor([[5, 2]] * 2), torch.tensor([[3]] * 2))
    assert some.shape == (2, 3, 16)


def test_the_decoder_gives_every_patch_whatever_order_it_was_told(model):
    torch.manual_seed(2)
    decoder = Decoder(TINY, SMALL).eval()
    fbanks, images = inputs()
    keep_a, keep_v = torch.tensor([[5, 2, 7], [0, 1, 6]]), torch.tensor([[3, 0], [1, 2]])
    heard = model.forward_joint(fbanks, images, keep_a, keep_v)
    a, v = decoder(heard, keep_a, keep_v)
    assert a.shape == (2, 8, 256) and v.shape == (2, 4, 768)
    turned = model.forward_joint(fbanks, images, keep_a.flip(1), keep_v)
    again, _ = decoder(turned, keep_a.flip(1), keep_v)
    torch.testing.assert_close(a, again, rtol=1e-4, atol=1e-5)


def test_only_hidden_patches_count():
    fbanks, _ = inputs()
    x = fbanks.transpose(1, 2)[:, None]
    keep = torch.tensor([[0, 1], [6, 7]])
    predicted = patches(x).clone()
    assert reconstruction_loss(predicted, x, keep) == 0
    predicted.scatter_(1, keep[..., None].expand(-1, -1, 256), 5.0)
    assert reconstruction_loss(predicted, x, keep) == 0
    assert reconstruction_loss(predicted + 1, x, keep) == pytest.approx(1)


def test_pre_training_can_go_on(model):
    decoder = Decoder(TINY, SMALL)
    fbanks, images = inputs()
    keep_a, keep_v = torch.tensor([[5, 2, 7], [0, 1, 6]]), torch.tensor([[3, 0], [1, 2]])
    parameters = [*model.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(30):
        a, v = decoder(model.forward_joint(fbanks, images, keep_a, keep_v), keep_a, keep_v)
        loss = reconstruction_loss(a, fbanks.transpose(1, 2)[:, None], keep_a)
        loss = loss + reconstruction_loss(v, images, keep_v)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
