"""Wav2CLIP's audio tower against the parts that the published code is made of."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.audio import Sound
from aai.errors import InputError
from aai.study.wav2clip import load


def test_wav2clip_hears_as_published(wav2clip_weights):
    """Against torchvision's ResNet-18 and torchaudio's spectrogram, which the published code is made of."""
    torchvision, torchaudio = pytest.importorskip("torchvision"), pytest.importorskip("torchaudio")
    path, model = wav2clip_weights
    wave = torch.randn(1, 32000, generator=torch.Generator().manual_seed(1)) * 0.1
    net = torchvision.models.resnet18(weights=None)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    net.fc = torch.nn.Identity()
    net.load_state_dict(model.audio_encoder.state_dict())
    x = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=353)(wave[None])
    x = torch.log(x + 1e-7)
    x = (x - torch.mean(x)) / (torch.std(x) + 1e-9)
    with torch.no_grad():
        expected = model.audio_transform.sequential(net.eval()(x))
    assert_close(load(path).embed([Sound(wave, 16000)]), F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        load(tmp_path / "nowhere.ckpt")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("words", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("words", encoding="utf-8")
    for name in ("other.ckpt", "text.ckpt", "text.safetensors"):
        with pytest.raises(InputError, match="cannot be read as Wav2CLIP"):
            load(tmp_path / name)
