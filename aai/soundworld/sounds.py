"""Synthesizes SoundWorld's sounds: the ten events, each rich and varied, its loudness following its
intensity.

Every sound is built loud and clean, then recorded somewhere: a random equaliser, a short room, a quiet
background. Last it is set to `lufs_of(intensity)` with less than 1 LU of jitter, so intensity can be read
from loudness: -45 LUFS at 0 to -15 LUFS at 1. Crests that do not fit are limited softly and the level set
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import signal

from ..audio import Sound, loudness
from ..errors import InputError
from .synthesis import Rng, at_loudness, band, clicks, noise, place, recorded, slow, voice
from .world import EVENTS

QUIETEST_LUFS, LOUDEST_LUFS = -45.0, -15.0


def lufs_of(intensity: float) -> float:
    """The loudness in LUFS of an intensity in (0, 1]."""
    return QUIETEST_LUFS + (LOUDEST_LUFS - QUIETEST_LUFS) * intensity


def intensity_of(lufs: float) -> float:
    """The intensity in [0.02, 1] that a loudness in LUFS stands for; silence (-inf) gives 0.02."""
    return float(np.clip((lufs - QUIETEST_LUFS) / (LOUDEST_LUFS - QUIETEST_LUFS), 0.02, 1.0))


def rain(rng: Rng, n: int, rate: int) -> np.ndarray:
    bed = band(noise(rng, n, rng.uniform(0, 0.8)), rng.uniform(150, 900), rng.uniform(5000, 7800), rate, 1)
    drops = clicks(rng, n, rate, rng.uniform(40, 400), 900, 6000, rng.uniform(0.003, 0.015))
    x = bed / bed.std() * (0.8 + 0.4 * slow(rng, n, rate, 0.7)) + rng.uniform(0.1, 1.0) * drops / drops.std()
    if rng.random() < 0.3:
        gutter = clicks(rng, n, rate, rng.uniform(3, 12), 400, 1500, 0.05)
        x += rng.uniform(0.2, 0.7) * gutter / gutter.std()
    return x


def thunder(rng: Rng, n: int, rate: int) -> np.ndarray:
    x = 0.02 * noise(rng, n, 1)
    for start in np.sort(rng.uniform(0, 0.6, rng.integers(1, 4))) * n:
        length = int(rate * rng.uniform(1.5, 4.5))
        t = np.arange(length) / rate
        roll = slow(rng, length, rate, rng.uniform(4, 9)) ** 1.5
        rumble = (
            band(noise(rng, length, 1.5), 20, rng.uniform(90, 350), rate)
            * np.exp(-t / rng.uniform(0.6, 2))
            * roll
        )
        piece = rumble / rumble.std()
        if rng.random() < 0.65:
            crack = noise(rng, length, 0.6) * np.exp(-t / rng.uniform(0.04, 0.25))
            piece += rng.uniform(0.5, 2.0) * crack
        place(x, piece * rng.uniform(0.5, 1) * np.minimum(1, t / 0.01), int(start))
    return x


def fire(rng: Rng, n: int, rate: int) -> np.ndarray:
    crackle = clicks(rng, n, rate, rng.uniform(8, 70), 1200, 6500, rng.uniform(0.002, 0.012))
    pops = clicks(rng, n, rate, rng.uniform(1, 6), 500, 2500, rng.uniform(0.01, 0.03))
    roar = band(noise(rng, n, 1.2), 30, rng.uniform(200, 900), rate) * (0.5 + slow(rng, n, rate, 3))
    hiss = band(noise(rng, n), 2000, 7500, rate) * slow(rng, n, rate, 1)
    return (
        crackle / crackle.std()
        + rng.uniform(0.3, 1) * pops / pops.std()
        + rng.uniform(0.05, 0.7) * roar / roar.std()
        + rng.uniform(0.02, 0.3) * hiss / hiss.std()
    )


def sea_waves(rng: Rng, n: int, rate: int) -> np.ndarray:
    t = np.arange(n) / rate
    x = rng.uniform(0.05, 0.3) * noise(rng, n, 1)
    period, phase = rng.uniform(2.2, 7), rng.uniform(0, 1)
    for k in range(2):
        swell = np.clip(np.sin(2 * np.pi * (t / (period * (1 + 0.37 * k)) + phase * (k + 1))), 0, 1)
        swell = swell ** rng.uniform(1, 3)
        wash = band(
            noise(rng, n, rng.uniform(0.4, 1.2)), rng.uniform(80, 300), rng.uniform(2500, 7000), rate, 1
        )
        x += swell * wash / wash.std() * rng.uniform(0.5, 1)
        foam = band(noise(rng, n), 2500, 7800, rate, 1)
        x += 0.35 * rng.random() * np.roll(swell, int(0.3 * rate)) * foam / foam.std()
    return x


def wind(rng: Rng, n: int, rate: int) -> np.ndarray:
    x = band(noise(rng, n, 1.5), 25, rng.uniform(200, 600), rate)
    x = x / x.std() * (0.3 + slow(rng, n, rate, 0.8))
    base, depth = rng.uniform(250, 700), rng.uniform(0.3, 1.2)
    gust = slow(rng, n, rate, 0.9)
    pitch = base * np.exp(depth * (gust - 0.3))
    # A whistle is noise moved up to a pitch that follows the gust.
    low = signal.sosfilt(signal.butter(2, rng.uniform(20, 90), fs=rate, output="sos"), rng.standard_normal(n))
    whistle = low / low.std() * np.sin(2 * np.pi * np.cumsum(pitch) / rate)
    return x + rng.uniform(0.3, 1.3) * gust * whistle


def fireworks(rng: Rng, n: int, rate: int) -> np.ndarray:
    x = 0.004 * noise(rng, n, 1)
    for start in np.sort(rng.uniform(0, 0.75, rng.integers(1, 6))) * n:
        start = int(start)
        if rng.random() < 0.6:
            length = int(rate * rng.uniform(0.3, 0.9))
            t = np.arange(length) / rate
            pitch = rng.uniform(900, 1800) + rng.uniform(600, 2200) * (t / t[-1]) ** 0.7
            whistle = np.sin(2 * np.pi * np.cumsum(pitch) / rate) + 0.2 * rng.standard_normal(length)
            place(x, rng.uniform(0.1, 0.35) * whistle * np.sin(np.pi * t / t[-1]), start)
            start += length
        length = int(rate * rng.uniform(0.4, 1.2))
        t = np.arange(length) / rate
        boom = band(noise(rng, length, 1), 40, rng.uniform(500, 3000), rate, 1)
        place(x, rng.uniform(0.7, 1.2) * boom / boom.std() * np.exp(-t / rng.uniform(0.06, 0.25)), start)
        if rng.random() < 0.7:
            length = int(rate * rng.uniform(0.6, 1.6))
            t = np.arange(length) / rate
            sparks = clicks(rng, length, rate, rng.uniform(60, 250), 2500, 7000, 0.004)
            place(x, rng.uniform(0.2, 0.5) * sparks / sparks.std() * np.exp(-t), start + int(0.15 * rate))
    return x


def dog(rng: Rng, n: int, rate: int) -> np.ndarray:
    x = np.zeros(n)
    low = rng.uniform(180, 750)
    formants = (low * rng.uniform(1.5, 2.5), low * rng.uniform(3, 5), rng.uniform(2000, 4000))
    breath, start = rng.uniform(0.1, 1.0), rng.uniform(0, 0.8) * rate
    for _ in range(rng.integers(1, 7)):
        length = int(rate * rng.uniform(0.09, 0.32))
        s = np.linspace(0, 1, length)
        pitch = low * rng.uniform(0.9, 1.1) * (0.8 + 0.5 * np.sin(np.pi * s) ** 0.8)
        shape = np.minimum(1, s / 0.08) * np.exp(-s * rng.uniform(1.5, 4)) * np.minimum(1, (1 - s) / 0.1)
        place(x, voice(rng, pitch, rate, formants, breath) * shape * rng.uniform(0.6, 1), int(start))
        start += length + rate * rng.choice((rng.uniform(0.05, 0.25), rng.uniform(0.3, 1.2)))
    return x


def rooster(rng: Rng, n: int, rate: int) -> np.ndarray:
    x = np.zeros(n)
    top, start = rng.uniform(550, 1050), rng.uniform(0, 1.6) * rate
    formants = (top * rng.uniform(1.8, 2.4), rng.uniform(2200, 3600))
    lengths = (rng.uniform(0.1, 0.25), rng.uniform(0.08, 0.2), rng.uniform(0.25, 0.5), rng.uniform(0.5, 1.3))
    heights = ((0.6, 0.75), (0.75, 0.85), (0.9, 1.1), (1.05, rng.uniform(0.5, 0.75)))
    for length, (a, b) in zip(lengths, heights):
        count = int(length * rate)
        s = np.linspace(0, 1, count)
        pitch = top * (a + (b - a) * s) * (1 + 0.012 * np.sin(2 * np.pi * 7 * s * length + rng.uniform(0, 6)))
        shape = np.minimum(1, s / 0.08) * np.minimum(1, (1 - s) / 0.2)
        place(x, voice(rng, pitch, rate, formants, rng.uniform(0.05, 0.35)) * shape, int(start))
        start += count + rate * rng.uniform(0.0, 0.1)
    return x


def helicopter(rng: Rng, n: int, rate: int) -> np.ndarray:
    t = np.arange(n) / rate
    beat = rng.uniform(9, 26) * (1 + 0.03 * (slow(rng, n, rate, 0.5) - 0.5))
    phase = np.cumsum(beat) / rate
    sharp = rng.uniform(2, 9)
    pulse = np.exp(-sharp * (phase % 1)) + 0.4 * rng.random() * np.exp(-sharp * ((phase + 0.5) % 1))
    chop = band(noise(rng, n, rng.uniform(0.5, 1.3)), rng.uniform(30, 80), rng.uniform(700, 3500), rate, 1)
    thump = np.sin(2 * np.pi * rng.uniform(3, 6) * phase * 1.0) * pulse
    turbine = np.sin(2 * np.pi * rng.uniform(400, 2500) * t + 2 * np.sin(2 * np.pi * 5 * t))
    x = pulse * chop / chop.std() + rng.uniform(0.2, 1) * thump + rng.uniform(0, 0.08) * turbine
    return x * (0.5 + 0.5 * slow(rng, n, rate, 0.3)) + rng.uniform(0.05, 0.35) * noise(rng, n, 1)


def clock(rng: Rng, n: int, rate: int) -> np.ndarray:
    x = np.zeros(n)
    gap = 1 / rng.choice((1, 2, 2, 4, 5)) * rng.uniform(0.95, 1.05)
    shapes = []
    for _ in range(2):
        length = int(rate * rng.uniform(0.008, 0.06))
        t = np.arange(length) / rate
        tick = np.zeros(length)
        for _ in range(rng.integers(2, 5)):
            f = np.exp(rng.uniform(np.log(700), np.log(6500)))
            tick += rng.uniform(0.3, 1) * np.sin(2 * np.pi * f * t) * np.exp(-t * rng.uniform(120, 700))
        shapes.append(tick + 0.5 * rng.standard_normal(length) * np.exp(-t * 900))
    uneven, when, k = rng.uniform(-0.12, 0.12), rng.uniform(0, gap), 0
    while when * rate < n:
        place(x, shapes[k % 2] * rng.uniform(0.85, 1.15), int(when * rate))
        when += gap * (1 + (uneven if k % 2 else -uneven))
        k += 1
    return x


_MAKE: dict[str, Callable[[Rng, int, int], np.ndarray]] = {
    "rain": rain,
    "thunder": thunder,
    "fire": fire,
    "sea waves": sea_waves,
    "wind": wind,
    "fireworks": fireworks,
    "dog": dog,
    "rooster": rooster,
    "helicopter": helicopter,
    "clock": clock,
}


def synthesize(event: str, intensity: float, seed: int, seconds: float = 5.0, rate: int = 16000) -> Sound:
    """One event at an intensity in (0, 1] as a mono Sound; the same arguments give the same samples.

    Raises InputError for an unknown event or an intensity outside (0, 1].
    """
    if event not in EVENTS:
        raise InputError(f"SoundWorld has no event '{event}': choose one of {', '.join(EVENTS)}.")
    if not 0 < intensity <= 1:
        raise InputError(f"The intensity {intensity} is outside (0, 1]: choose one between.")
    rng = np.random.default_rng([seed, EVENTS.index(event)])
    n = int(seconds * rate)
    x = recorded(_MAKE[event](rng, n, rate), rng, rate)
    wanted = lufs_of(intensity) + rng.uniform(-0.8, 0.8)
    return at_loudness(x, wanted, rate)


def at_once(first: Sound, second: Sound, decibels: float) -> Sound:
    """Two sounds of one length and rate at once, the second so many LU below the first in loudness. The first
    stays as it is, so crests may pass 1."""
    behind = loudness(first) - decibels - loudness(second)
    return replace(first, waveform=first.waveform + 10 ** (behind / 20) * second.waveform)


def at_any_level(sound: Sound, rng: Rng) -> Sound:
    """The sound up to 8 dB softer or 2 dB louder, with its crests clipped at 1."""
    return replace(sound, waveform=(sound.waveform * 10 ** (rng.uniform(-8, 2) / 20)).clamp(-1, 1))


UNSEEN = 9_000_000
"""Where the seeds of `unseen_sound` begin."""


def unseen_sound(event: str, seed: int, intensity: float | None = None) -> Sound:
    """A synthesized sound that no training seed comes near; without an intensity, a random one."""
    if intensity is None:
        intensity = float(np.random.default_rng([UNSEEN, seed]).uniform(0.15, 1))
    return synthesize(event, intensity, UNSEEN + seed)
