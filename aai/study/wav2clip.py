"""Wav2CLIP's audio tower (descriptinc/lyrebird-wav2clip): a ResNet-18 over a log spectrogram, and a small
network into the space of CLIP ViT-B/32. It measures AIS, as the papers do.

Takes the published checkpoint's keys: `audio_encoder.*`, `audio_transform.*`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound
from ..errors import InputError, first_line
from ..files import Unreadable, is_file, read_weights

RATE = 16000
N_FFT, HOP = 512, 353


class Wav2CLIP(nn.Module):
    """Waveforms [B, T] at 16 kHz to [B, 512]."""

    def __init__(self):
        # Here, as it takes long to import and only AIS by Wav2CLIP needs it.
        from torchvision.models import resnet18

        super().__init__()
        self.audio_encoder = resnet18(weights=None)
        self.audio_encoder.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.audio_encoder.fc = nn.Identity()
        self.audio_transform = nn.Module()
        self.audio_transform.sequential = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512)
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        window = torch.hann_window(N_FFT, device=waveforms.device)
        spectrum = torch.stft(waveforms, N_FFT, HOP, window=window, return_complex=True).abs().square()
        x = torch.log(spectrum[:, None] + 1e-7)
        # Published: over the whole batch, so a sound's vector depended on its neighbours; here each alone.
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-9)
        return self.audio_transform.sequential(self.audio_encoder(x))

    @torch.no_grad()
    def embed(self, sounds: Sequence[Sound]) -> Tensor:
        """[B, 512] of length one."""
        waveforms = [sound.mono().resample(RATE).waveform for sound in sounds]
        padded = [F.pad(w, (0, max(0, RATE - w.shape[1]))) for w in waveforms]
        return F.normalize(torch.cat([self(w) for w in padded]), dim=-1)


def load(path: str | os.PathLike) -> Wav2CLIP:
    """Reads the published checkpoint (tensors only, nothing in it is executed) or the same in safetensors.

    Raises InputError for a missing file, and one that is not Wav2CLIP's.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"There is no file '{path}' with Wav2CLIP's weights: check its name.")
    try:
        state = read_weights(path)
        state = state.get("state_dict", state)
        model = Wav2CLIP()
        own = model.state_dict()
        missing = [key for key in own if key not in state]
        if missing:
            raise KeyError(f"it lacks {missing[0]}")
        model.load_state_dict({key: state[key] for key in own})
    except (Unreadable, AttributeError, RuntimeError, KeyError) as error:
        raise InputError(
            f"'{path.name}' cannot be read as Wav2CLIP's weights ({first_line(error)}): take the published "
            "checkpoint, or its tensors saved as safetensors."
        ) from error
    return model.eval().requires_grad_(False)
