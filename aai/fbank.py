"""Kaldi's log mel filter bank in batched torch: the input of CAV-MAE and its like."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = torch.finfo(torch.float32).eps


def _mel(hz: Tensor | float) -> Tensor:
    return 1127.0 * torch.log1p(torch.as_tensor(hz, dtype=torch.float64) / 700.0)


@lru_cache(maxsize=16)
def _mel_matrix(mel_bins: int, window: int, rate: int) -> Tensor:
    """Triangles in mel: [window // 2 + 1, mel_bins], from 20 Hz to half the rate; the last FFT bin
    weighs nothing."""
    edges = torch.linspace(float(_mel(20.0)), float(_mel(rate / 2)), mel_bins + 2, dtype=torch.float64)
    bins = _mel(torch.arange(window // 2, dtype=torch.float64) * (rate / window))[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    return F.pad(triangles, (0, 0, 0, 1)).float()


def samples_of(frames: int, rate: int) -> int:
    """How many samples so many frames span."""
    return int(rate * 0.025) + int(rate * 0.010) * (frames - 1)


def fbank(waveforms: Tensor, rate: int = 16000, mel_bins: int = 128, frames: int | None = 1024) -> Tensor:
    """Waveforms [B, T] to log mel energies [B, frames, mel_bins], on the waveforms' device.

    Kaldi's filter bank with `htk_compat=True, use_energy=False, window_type='hanning', dither=0,
    frame_shift=10` ms, frames of 25 ms, pre-emphasis 0.97, as CAV-MAE sets it (`src/dataloader.py`). Each
    waveform's mean is taken off first, as CAV-MAE does. `frames` pads with zeros or cuts; None keeps the
    frames there are (at least one).
    """
    size, shift = int(rate * 0.025), int(rate * 0.010)
    waveforms = waveforms.float()
    waveforms = waveforms - waveforms.mean(-1, keepdim=True)
    if waveforms.shape[-1] < size:
        waveforms = F.pad(waveforms, (0, size - waveforms.shape[-1]))
    if frames is not None:
        waveforms = waveforms[:, : samples_of(frames, rate)]
    x = waveforms.unfold(-1, size, shift)
    x = x - x.mean(-1, keepdim=True)
    x = x - 0.97 * torch.cat([x[..., :1], x[..., :-1]], dim=-1)
    window = 1 << (size - 1).bit_length()
    x = x * torch.hann_window(size, periodic=False, device=x.device)
    power = torch.fft.rfft(x, n=window).abs().square()
    features = (power @ _mel_matrix(mel_bins, window, rate).to(x.device)).clamp(min=EPSILON).log()
    if frames is not None:
        features = F.pad(features, (0, 0, 0, frames - features.shape[1]))
    return features
