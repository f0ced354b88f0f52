"""The sound encoder of SGSIM, "Sound-Guided Semantic Image Manipulation" (Lee et al., CVPR 2022): a ResNet-18
over a mel spectrogram in the space of CLIP ViT-B/32. Table 2 has it.

Takes the keys of resnet18_57.pth as kuai-lab/sound-guided-semantic-image-manipulation loads it: `conv.*`,
`feature_extractor.*`. Their licence is CC BY-NC-SA 4.0: not for commercial use.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .clip_space import CLIPSpaceEncoder
from .published import torchvision_models

RATE = 44100
N_FFT, HOP, MELS = 2048, 512, 128
FRAMES = 864
SIDES = (512, 128)
"""Their picture of a sound is resized to 512 rows of 128 columns, and its numbers then taken row by row as
128 rows of 512. It is no transpose: the weights were trained on it so."""
QUIETEST, RANGE_DB = 1e-10, 80.0


class SGSIMTower(nn.Module):
    """Waveforms [B, T] at 44.1 kHz, of up to 10 s, to [B, 512]."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.feature_extractor = torchvision_models().resnet18(weights=None, num_classes=512)

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.feature_extractor(self.conv(log_mel(waveforms)))


def log_mel(waveforms: Tensor) -> Tensor:
    """Waveforms [B, T] as librosa's mel spectrogram in dB below its loudest number, [B, 1, 128, 512] in
    [0, 1], silence behind the sound up to FRAMES."""
    from transformers.audio_utils import mel_filter_bank

    window = torch.hann_window(N_FFT, device=waveforms.device)
    waveforms = F.pad(waveforms, (0, max(0, N_FFT - waveforms.shape[1])))
    power = torch.stft(waveforms, N_FFT, HOP, window=window, return_complex=True).abs().square()
    bank = mel_filter_bank(1 + N_FFT // 2, MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    mel = torch.from_numpy(bank.astype(np.float32)).to(power).T @ power
    loudest = mel.amax((1, 2), keepdim=True)
    db = 10 * (mel.clamp(min=QUIETEST) / loudest.clamp(min=QUIETEST)).log10()
    x = F.pad(db.clamp(min=-RANGE_DB) / RANGE_DB + 1, (0, max(0, FRAMES - db.shape[-1])))[..., :FRAMES]
    x = F.interpolate(x[:, None], SIDES, mode="bilinear", align_corners=False)
    return x.reshape(-1, 1, *reversed(SIDES))


class SGSIMEncoder(CLIPSpaceEncoder):
    """SGSIM's sound encoder as a SoundEncoder of CLIP ViT-B/32's joint space."""

    family = "sgsim"
    title = "SGSIM"
    rate, seconds = RATE, 10.0
    whose = "SGSIM's sound encoder (resnet18_57.pth of kuai-lab/sound-guided-semantic-image-manipulation)"
    licence = "CC-BY-NC-SA-4.0 (not for commercial use)"

    @classmethod
    def build(cls) -> SGSIMTower:
        return SGSIMTower()
