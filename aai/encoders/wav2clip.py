"""Wav2CLIP (Wu et al., ICASSP 2022): a ResNet-18 over a log spectrogram, and two layers into the space of
CLIP ViT-B/32. Table 2 has it, and it measures AIS, as the papers do.

Takes the keys of Wav2CLIP.pt, which descriptinc/lyrebird-wav2clip publishes under the MIT licence:
`audio_encoder.*`, `audio_transform.*`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .clip_space import CLIPSpaceEncoder
from .published import torchvision_models

RATE = 16000
N_FFT, HOP = 512, 353
SECONDS = 10.0
"""Its training took clips of VGGSound."""


class Wav2CLIPTower(nn.Module):
    """Waveforms [B, T] at 16 kHz to [B, 512]."""

    def __init__(self):
        super().__init__()
        self.audio_encoder = torchvision_models().resnet18(weights=None)
        self.audio_encoder.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.audio_encoder.fc = nn.Identity()
        self.audio_transform = nn.Module()
        self.audio_transform.sequential = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512)
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        window = torch.hann_window(N_FFT, device=waveforms.device)
        # The spectrogram mirrors half a window at both ends.
        waveforms = F.pad(waveforms, (0, max(0, N_FFT - waveforms.shape[1])))
        spectrum = torch.stft(waveforms, N_FFT, HOP, window=window, return_complex=True).abs().square()
        x = torch.log(spectrum[:, None] + 1e-7)
        # Published: over the whole batch, so a sound's vector depended on its neighbours; here each alone.
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-9)
        return self.audio_transform.sequential(self.audio_encoder(x))


class Wav2CLIPEncoder(CLIPSpaceEncoder):
    """Wav2CLIP as a SoundEncoder of CLIP ViT-B/32's joint space."""

    family = "wav2clip"
    title = "Wav2CLIP"
    rate, seconds = RATE, SECONDS
    whose = "Wav2CLIP (Wav2CLIP.pt of github.com/descriptinc/lyrebird-wav2clip)"
    licence = "MIT"

    @classmethod
    def build(cls) -> Wav2CLIPTower:
        return Wav2CLIPTower()
