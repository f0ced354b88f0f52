"""The map from CLAP's space to a text encoder's; `tests/align/test_bridge.py` fits it."""

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.encoders import loaders
from aai.encoders.bridged_clap import Bridge, BridgedCLAP
from aai.encoders.clap import load_folder


def filled(memory=0, hidden=0):
    generator = torch.Generator().manual_seed(0)
    bridge = Bridge(24, 10, memory, hidden)
    for buffer in (bridge.weight, bridge.mean_a, bridge.mean_x, bridge.mean_y, bridge.memory):
        buffer.copy_(torch.randn(buffer.shape, generator=generator))
    bridge.stretch.fill_(2.0)
    return bridge


def test_the_sounds_mean_becomes_the_texts():
    bridge = filled()
    assert_close(bridge(bridge.mean_a[None])[0], F.normalize(bridge.mean_y, dim=-1))
    sounds = torch.randn(3, 24)
    expected = F.normalize(bridge.mean_y + 2 * (sounds - bridge.mean_a) @ bridge.weight.T, dim=-1)
    assert_close(bridge(sounds), expected)


def test_with_a_memory_a_sound_becomes_the_text_that_it_is_nearest_to():
    bridge = filled(memory=5)
    bridge.memory.copy_(F.normalize(bridge.memory, dim=-1))
    assert_close(bridge(bridge.memory), bridge.texts(bridge.memory), atol=1e-4, rtol=0)


def test_the_encoder_is_kept_whole(clap_folder, tmp_path):
    encoder = BridgedCLAP(load_folder(clap_folder)[0], filled(), ["rain"], torch.randn(1, 10))
    assert encoder.embed(iter(())).shape == (0, 10)
    assert not encoder.sees and encoder.dim == 10 and encoder.to("cpu") is encoder
    loaders.save(encoder, tmp_path / "clap.safetensors", torch.float32)
    again = loaders.load(tmp_path / "clap.safetensors")
    for name, weight in encoder.state()[0].items():
        assert torch.equal(weight, again.state()[0][name])
    assert again.state()[1] == encoder.state()[1] and again.labels == ["rain"]
