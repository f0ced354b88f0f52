"""What SoundWorld's sounds are built of: noise, bands, clicks, throats; and how a sound is recorded."""

from __future__ import annotations

import numpy as np
from scipy import signal

from ..audio import Sound, from_tensor, loudness

Rng = np.random.Generator


def noise(rng: Rng, n: int, slope: float = 0.0) -> np.ndarray:
    """Noise whose power falls by 3 `slope` dB an octave (0 white, 1 pink, 2 brown), of unit variance."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.arange(len(spectrum)), 8)
    x = np.fft.irfft(spectrum * frequency ** (-slope / 2), n)
    return x / x.std()


def band(x: np.ndarray, low: float, high: float, rate: int, order: int = 2) -> np.ndarray:
    high = min(high, 0.48 * rate)
    return signal.sosfilt(signal.butter(order, (max(low, 15), high), "bandpass", fs=rate, output="sos"), x)


def slow(rng: Rng, n: int, rate: int, hz: float) -> np.ndarray:
    """A smooth random curve in 0..1 that changes about `hz` times a second."""
    points = max(int(n / rate * hz) + 3, 4)
    return np.interp(np.linspace(0, points - 1, n), np.arange(points), rng.uniform(0, 1, points))


def clicks(
    rng: Rng, n: int, rate: int, per_second: float, low: float, high: float, ring: float
) -> np.ndarray:
    """Impulses at random times and sizes, each ringing for `ring` seconds in a random band."""
    x = np.zeros(n)
    times = rng.integers(0, n, max(int(per_second * n / rate), 1))
    sizes = rng.exponential(1.0, len(times)) ** 1.5 * rng.choice((-1, 1), len(times))
    for group in np.array_split(np.arange(len(times)), 4):
        part = np.zeros(n)
        np.add.at(part, times[group], sizes[group])
        length = max(int(ring * rate * rng.uniform(0.6, 1.6)), 8)
        t = np.arange(length) / rate
        f = np.exp(rng.uniform(np.log(low), np.log(high)))
        kernel = np.exp(-5 * t / t[-1]) * (np.sin(2 * np.pi * f * t) + 0.5 * rng.standard_normal(length))
        x += signal.fftconvolve(part, kernel)[:n]
    return x


def place(x: np.ndarray, piece: np.ndarray, start: int) -> None:
    """Adds `piece` into x from sample `start`, cut where x ends."""
    stop = min(len(x), start + len(piece))
    if 0 <= start < stop:
        x[start:stop] += piece[: stop - start]


def voice(rng: Rng, pitch: np.ndarray, rate: int, formants: tuple[float, ...], breath: float) -> np.ndarray:
    """A throat: harmonics of `pitch` (Hz, a curve) through resonances, with breath noise."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum(
        np.sin(k * phase + rng.uniform(0, 6)) / k**0.7 for k in range(1, 13) if k * pitch.mean() < 0.45 * rate
    )
    buzz = buzz + breath * rng.standard_normal(len(pitch))
    out = 0.15 * buzz
    for f in formants:
        if f < 0.45 * rate:
            out = out + signal.lfilter(*signal.iirpeak(f, rng.uniform(2, 5), fs=rate), buzz)
    return out


def recorded(x: np.ndarray, rng: Rng, rate: int) -> np.ndarray:
    """The sound as a microphone somewhere records it: a room, an equaliser, a background."""
    n = len(x)
    if rng.random() < 0.6:
        length = int(rate * rng.uniform(0.05, 0.6))
        tail = rng.standard_normal(length) * np.exp(-6 * np.arange(length) / length)
        wet = signal.fftconvolve(x, tail / np.sqrt((tail**2).sum()))[:n]
        x = x + rng.uniform(0.05, 0.5) * wet
    spectrum = np.fft.rfft(x)
    frequency = np.fft.rfftfreq(n, 1 / rate)
    knots = np.log(np.array((20, 100, 300, 1000, 3000, 8000)))
    gains = np.interp(np.log(np.maximum(frequency, 20)), knots, rng.normal(0, 3.5, len(knots)))
    if rng.random() < 0.3:
        gains = gains - 24 * np.clip(np.log2(np.maximum(frequency, 1) / rng.uniform(2500, 6000)), 0, 1)
    x = np.fft.irfft(spectrum * 10 ** (gains / 20), n)
    power = np.sqrt((x**2).mean()) + 1e-9
    return x + power * 10 ** (rng.uniform(-60, -22) / 20) * noise(rng, n, rng.uniform(0, 2))


def at_loudness(x: np.ndarray, lufs: float, rate: int) -> Sound:
    """Samples as a mono Sound at `lufs`; crests that do not fit are limited softly and the level set
    again."""
    x = x / np.abs(x).max()
    for _ in range(4):
        x = x * 10 ** ((lufs - loudness(_sound(x, rate))) / 20)
        if np.abs(x).max() <= 0.98:
            break
        x = 0.98 * np.tanh(x / 0.98)
    return _sound(np.clip(x, -1, 1), rate)


def _sound(x: np.ndarray, rate: int) -> Sound:
    import torch

    return from_tensor(torch.from_numpy(x.astype(np.float32))[None], rate)
