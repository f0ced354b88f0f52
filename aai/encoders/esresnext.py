"""ESResNeXt-fbsp (Guzhov et al., IJCNN 2021), AudioCLIP's sound tower: a ResNeXt-50 with attention over a
time-frequency transform that was learned, frequency B-spline wavelets of complex numbers.

The names of its weights are those of AndreyGuzhov/AudioCLIP.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .published import torchvision_models

RATE, SAMPLES = 44100, 220500
N_FFT, HOP, WINDOW = 2048, 561, 1654
BANDS = 3
"""A spectrum's thirds are the three channels of the picture that the ResNeXt sees."""
EPS = 1e-8
SILENCE = 1e-18
ATTENTION = (
    *((64, 256, (3, 1)), (256, 512, (1, 5)), (512, 1024, (3, 1)), (1024, 2048, (1, 5))),
    (2048, 2048, (3, 5)),
)
"""Channels in and out, and the kernel, of each attention: one beside every stage, one beside the mean."""


class FBSP(nn.Module):
    """Frames [..., N_FFT] to complex numbers [..., F], each its product with a wavelet:
    sqrt(fb) sinc(fb t / m)^m exp(-i fc t) with t from -pi to pi, over sqrt(N_FFT)."""

    def __init__(self, features: int = N_FFT // 2 + 1):
        super().__init__()
        self.m = nn.Parameter(torch.zeros(features))
        self.fb = nn.Parameter(torch.ones(features))
        self.fc = nn.Parameter(torch.arange(features, dtype=torch.float32))

    def wavelets(self) -> Tensor:
        """[F, N_FFT], complex."""
        m, fb, fc = (each[:, None] for each in (self.m, self.fb, self.fc))
        t = math.pi * torch.linspace(-1.0, 1.0, N_FFT, device=m.device)[None] + EPS
        x = fb * t / (m + EPS)
        sinc = torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x)
        # A negative base to a power that is no whole number turns by half a circle times the power.
        envelope = torch.polar(sinc.square() ** (0.5 * m), m * torch.atan2(torch.zeros_like(sinc), sinc))
        return fb.sqrt() * envelope * torch.polar(torch.ones_like(t), -fc * t) / N_FFT**0.5

    def forward(self, frames: Tensor) -> Tensor:
        wavelets = self.wavelets()
        return torch.complex(F.linear(frames, wavelets.real), F.linear(frames, wavelets.imag))


class Attention(nn.Module):
    """What a stage's result is multiplied with, out of the stage's input: [B, C, ...] to [B, C', *size]."""

    def __init__(self, channels: int, out: int, kernel: tuple[int, int]):
        super().__init__()
        padding = tuple(side // 2 for side in kernel)
        self.conv_depth = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)
        self.conv_point = nn.Conv2d(channels, out, 1)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return self.bn(self.conv_point(self.conv_depth(F.adaptive_max_pool2d(x, size)))).sigmoid()


class ESResNeXt(nn.Module):
    """Waveforms [B, T] at 44.1 kHz in [-1, 1] to [B, dim]; those shorter than 5 s go on as they begin and
    end, on both sides."""

    def __init__(self, dim: int = 1024):
        super().__init__()
        net = torchvision_models().resnext50_32x4d(weights=None)
        self.conv1, self.bn1, self.maxpool = net.conv1, net.bn1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        for number, sizes in enumerate(ATTENTION, 1):
            setattr(self, f"att{number}", Attention(*sizes))
        self.fc = nn.Linear(2048, dim)
        self.fbsp = FBSP()
        self.register_buffer("window", blackman_harris(WINDOW))

    def forward(self, waveforms: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(self.decibels(waveforms))).relu())
        for stage, attention in (
            (self.layer1, self.att1),
            (self.layer2, self.att2),
            (self.layer3, self.att3),
            (self.layer4, self.att4),
        ):
            out = stage(x)
            x = out * attention(x, out.shape[-2:])
        mean = x.mean((-2, -1), keepdim=True)
        return self.fc((mean * self.att5(x, mean.shape[-2:])).flatten(1))

    def decibels(self, waveforms: Tensor) -> Tensor:
        """[B, T] to the power spectrum in dB, [B, 3, 341, frames]."""
        # In training its sounds were 16-bit numbers, brought to [-1, 1] with the middle of the range as 0.
        x = (_padded(waveforms) * 32768 + 32768) * 2 / 65535 - 1
        count = 1 + max(0, math.ceil((x.shape[1] - WINDOW) / HOP))
        short = max(0, (count - 1) * HOP + WINDOW - x.shape[1])
        x = F.pad(x, (short // 2, short - short // 2))
        frames = x.unfold(1, WINDOW, HOP) * self.window
        left = (N_FFT - WINDOW) // 2
        spectrum = self.fbsp(F.pad(frames, (left, N_FFT - WINDOW - left))).transpose(1, 2)
        height = spectrum.shape[1] // BANDS
        power = spectrum.real**2 + spectrum.imag**2
        power = power[:, : BANDS * height].unflatten(1, (BANDS, height))
        return 10 * torch.where(power > 0, power, SILENCE).log10()


def blackman_harris(size: int) -> Tensor:
    """The periodic window of this name, with four terms, [size]."""
    from scipy.signal import get_window

    return torch.from_numpy(get_window("blackmanharris", size)).float()


def _padded(waveforms: Tensor) -> Tensor:
    short = max(0, SAMPLES - waveforms.shape[1])
    left = round(0.5 * short)
    begin, end = waveforms[:, :1], waveforms[:, -1:]
    return torch.cat([begin.expand(-1, left), waveforms, end.expand(-1, short - left)], dim=1)
