"""GlueNet's states against its layers written out, by the names of its public file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.testing import assert_close

from aai.audio import Sound
from aai.encoders.gluenet import STATE_LENGTHS, GlueNet, GlueNetTower, heard, load, load_tower
from aai.encoders.loaders import save
from aai.errors import InputError


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    made = GlueNetTower()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                # Norms that are not as they begin, and biases that tell.
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return made.eval().requires_grad_(False)


def by_name(weights, name, x, normed, ends=False):
    """One of its perceptrons: linear, norm, GELU; linear, norm, GELU; linear, norm or the end."""
    step = 3 if normed else 2
    for number in range(3):
        at = f"{name}.{step * number}"
        x = F.linear(x, weights[f"{at}.weight"], weights[f"{at}.bias"])
        if normed:
            at = f"{name}.{step * number + 1}"
            x = F.layer_norm(x, x.shape[-1:], weights[f"{at}.weight"], weights[f"{at}.bias"])
        if number < 2 or ends:
            x = F.gelu(x)
    return x


def expected(weights, features):
    """The states of features [B, d], from the state dict alone."""

    def base(name, x):
        x = x + by_name(weights, f"{name}.net_sen", x, True)
        turned = x.transpose(1, 2)
        return (turned + by_name(weights, f"{name}.net_tok", turned, True)).transpose(1, 2)

    def turn(name, x, normed):
        x = by_name(weights, f"{name}.net_sen", x, normed, ends=not normed).transpose(1, 2)
        return by_name(weights, f"{name}.net_tok", x, normed).transpose(1, 2)

    x = features.reshape(len(features), 16, -1)
    for number in range(3):
        x = F.gelu(base(f"in_blocks.{number}", x) + x)
    x = turn("trans", x, True)
    for number in range(2):
        x = F.gelu(base(f"out_blocks.{number}", x) + x)
    x = turn("tail_2", turn("tail_1", x, False) + x, False)
    return x * torch.tensor(STATE_LENGTHS).view(1, 77, 1) / 2


def test_the_states_are_those_of_its_layers(tower):
    features = F.normalize(torch.randn(3, 1024), dim=-1)
    states = tower(features)
    assert states.shape == (3, 77, 768)
    assert (states[0] - states[1]).abs().max() > 0.1
    assert_close(states, expected(tower.state_dict(), features), atol=1e-4, rtol=0)


@pytest.mark.parametrize("write, name", [(torch.save, "gluenet.ckpt"), (save_file, "gluenet.safetensors")])
def test_its_public_file_is_read_whole(tower, tmp_path, write, name):
    weights = tower.state_dict()
    # Two perceptrons of three layers each: six translators with norms, two without.
    assert len(weights) == 6 * 24 + 2 * 12
    write(weights, tmp_path / name)
    read = load_tower(tmp_path / name).state_dict()
    assert read.keys() == weights.keys() and all(torch.equal(read[key], weights[key]) for key in read)


def test_a_file_that_lacks_weights_says_which(tmp_path):
    torch.save({"trans.net_tok.0.weight": torch.zeros(64, 16)}, tmp_path / "half.ckpt")
    with pytest.raises(InputError) as raised:
        load_tower(tmp_path / "half.ckpt")
    says = str(raised.value)
    assert "'half.ckpt'" in says and "lacks 167 of the 168 weights of GlueNet (" in says
    assert "(in_blocks.0.net_tok.0.weight, " in says and "\n" not in says and says.count(". ") == 0


def test_it_hears_through_audioclip_alone(encoder, tmp_path):
    save(encoder, tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match=r"hears through AudioCLIP.*tiny.*AudioCLIP-Full-Training\.pt"):
        load(tmp_path / "gluenet.ckpt", tmp_path / "tiny.safetensors")


def test_a_sound_becomes_states_by_its_middle_at_full_scale(encoder, chirp):
    torch.manual_seed(1)
    gluenet = GlueNet(GlueNetTower(16, 8), encoder)
    # Of 1.96 s the encoder's 0.96 s in the middle.
    long = 0.1 * chirp(1.96, 16000)
    middle = 2 * (long[:, 8000:-8000] - long.min()) / (long.max() - long.min()) - 1
    states = gluenet.states([Sound(long.expand(2, -1), 16000)])
    f_a = encoder.embed([Sound(middle, 16000)])
    assert gluenet.width == 8 and states.shape == (1, 77, 8)
    assert_close(states, expected(gluenet.tower.state_dict(), f_a), atol=1e-4, rtol=0)
    assert not torch.allclose(states, gluenet.states([Sound(long.flip(-1), 16000)]), atol=1e-2)


def test_what_does_not_swing_is_refused():
    with pytest.raises(InputError, match="silent"):
        heard(Sound(torch.full((1, 1000), 0.2), 16000), 5.0)


def test_other_weights_are_told_apart(encoder):
    torch.manual_seed(0)
    prints = [GlueNet(GlueNetTower(16, 8), encoder).fingerprint for _ in range(2)]
    assert len(set(prints)) == 2
