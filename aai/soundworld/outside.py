"""Synthesizes sounds that SoundWorld has no word for, so that an encoder learns to say so.

Fourteen kinds, none of them one of the ten events or near to one: no steady noise (rain, wind, waves), no
even clicks (a clock), no deep bangs (thunder, fireworks). They are built and recorded as the events are, so
that nothing but the sound tells the two apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

from ..audio import Sound
from ..errors import InputError
from .synthesis import Rng, at_loudness, band, clicks, noise, place, recorded, slow, voice


def _repeated(
    rng: Rng, n: int, rate: int, piece: Callable[[], np.ndarray], gap: tuple[float, float]
) -> np.ndarray:
    """Pieces one after the other, `gap` seconds of silence between them, from a random start on."""
    x, start = np.zeros(n), rng.uniform(0, 0.3) * rate
    while start < n:
        made = piece()
        place(x, made * rng.uniform(0.5, 1), int(start))
        start += len(made) + rate * rng.uniform(*gap)
    return x


def _shape(s: np.ndarray, attack: float, release: float) -> np.ndarray:
    """An envelope over s in 0..1: a rise of `attack`, a fall of `release`."""
    return np.minimum(1, s / attack) * np.minimum(1, (1 - s) / release)


def _harmonics(pitch: np.ndarray, rate: int, count: int, fall: float, rng: Rng) -> np.ndarray:
    """Harmonics of `pitch` (Hz, a curve) below half the rate, the k-th k**-fall as strong."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    kept = range(1, 1 + min(count, max(1, int(0.45 * rate / pitch.max()))))
    return sum(np.sin(k * phase + rng.uniform(0, 6)) / k**fall for k in kept)


def speech(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Syllables: a throat whose formants jump from vowel to vowel, hissing between them."""
    low = rng.uniform(80, 320)
    vowels = ((300, 2300), (700, 1200), (500, 1800), (350, 800), (600, 1000))

    def syllable() -> np.ndarray:
        s = np.linspace(0, 1, int(rate * rng.uniform(0.08, 0.3)))
        first, second = vowels[rng.integers(len(vowels))]
        pitch = low * rng.uniform(0.8, 1.3) * (1 + rng.uniform(-0.25, 0.25) * s)
        x = voice(rng, pitch, rate, (first, second, rng.uniform(2400, 3400)), rng.uniform(0.02, 0.2))
        x = x * _shape(s, 0.15, 0.25)
        if rng.random() < 0.4:
            hiss = band(rng.standard_normal(int(rate * rng.uniform(0.04, 0.12))), 2500, 7500, rate)
            x = np.concatenate([0.4 * x.std() / hiss.std() * hiss, x])
        return x

    return _repeated(rng, n, rate, syllable, (0.0, rng.uniform(0.05, 0.4)))


def cry(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Long calls of a throat with a gliding pitch: cattle, cats, gulls, people who call."""
    low, breath = np.exp(rng.uniform(np.log(90), np.log(1200))), rng.uniform(0.02, 0.4)
    formants = (low * rng.uniform(1.2, 3), low * rng.uniform(3, 6), rng.uniform(2000, 5000))
    bend, peak, long = rng.uniform(-0.5, 0.6), rng.uniform(0.2, 0.8), rng.uniform(0.5, 1.8)

    def call() -> np.ndarray:
        s = np.linspace(0, 1, int(rate * long * rng.uniform(0.7, 1.3)))
        wobble = 1 + rng.uniform(0, 0.05) * np.sin(2 * np.pi * rng.uniform(4, 25) * s * long)
        pitch = low * (1 + bend * np.interp(s, (0, peak, 1), (0, 1, rng.uniform(-0.5, 0.5)))) * wobble
        return voice(rng, np.maximum(pitch, 40), rate, formants, breath) * _shape(s, 0.1, 0.3)

    return _repeated(rng, n, rate, call, (0.1, rng.uniform(0.2, 1.5)))


def chirps(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Birds: short whistles that glide and trill, in phrases."""
    base = rng.uniform(1800, 5500)
    notes = [(rng.uniform(0.7, 1.4), rng.uniform(-0.4, 0.4), rng.uniform(0.03, 0.2)) for _ in range(4)]

    def note() -> np.ndarray:
        height, glide, long = notes[rng.integers(len(notes))]
        s = np.linspace(0, 1, int(rate * long))
        trill = 1 + rng.uniform(0, 0.1) * np.sin(2 * np.pi * rng.uniform(15, 60) * s * long)
        pitch = np.minimum(base * height * (1 + glide * s) * trill, 0.45 * rate)
        return _harmonics(pitch, rate, 2, rng.uniform(1.5, 4), rng) * np.sin(np.pi * s)

    return _repeated(rng, n, rate, note, (0.01, rng.choice((0.08, 0.3, 0.8))))


def insects(rng: Rng, n: int, rate: int) -> np.ndarray:
    """A high carrier that stridulates: crickets, cicadas, bees."""
    t = np.arange(n) / rate
    carrier = rng.choice((rng.uniform(120, 350), rng.uniform(2500, 6500)))
    pitch = carrier * (1 + 0.02 * (slow(rng, n, rate, 3) - 0.5))
    x = _harmonics(pitch, rate, 12 if carrier < 1000 else 1, 0.8, rng)
    if rng.random() < 0.7:
        beat = rng.uniform(25, 80)
        x = (
            x
            * np.clip(np.sin(2 * np.pi * beat * t), 0, 1)
            * (np.sin(2 * np.pi * rng.uniform(1.5, 6) * t) > 0)
        )
    return x * (0.4 + slow(rng, n, rate, 1)) + 0.05 * noise(rng, n, 1)


def engine(rng: Rng, n: int, rate: int) -> np.ndarray:
    """A motor: a harmonic buzz whose pitch follows its load, with the noise of its exhaust."""
    gears = np.exp(rng.uniform(0, 1.2) * (slow(rng, n, rate, rng.uniform(0.2, 1.5)) - 0.5))
    pitch = np.exp(rng.uniform(np.log(45), np.log(260))) * gears
    x = _harmonics(pitch, rate, 40, rng.uniform(0.4, 1.2), rng)
    rough = 1 + rng.uniform(0, 0.5) * np.sin(np.cumsum(pitch / 2) * 2 * np.pi / rate)
    exhaust = band(noise(rng, n, 0.5), 100, rng.uniform(800, 5000), rate)
    return x / x.std() * rough + rng.uniform(0.1, 0.7) * exhaust / exhaust.std() * rough


def whirr(rng: Rng, n: int, rate: int) -> np.ndarray:
    """A household motor that starts, runs and stops: a drill, a mixer, a vacuum cleaner."""

    def run() -> np.ndarray:
        s = np.linspace(0, 1, int(rate * rng.uniform(0.6, 3)))
        pitch = rng.uniform(200, 1600) * (0.3 + 0.7 * np.minimum(1, s / 0.2) * np.minimum(1, (1 - s) / 0.25))
        x = _harmonics(pitch, rate, 15, rng.uniform(0.3, 1.0), rng)
        air = band(rng.standard_normal(len(s)), rng.uniform(500, 1500), rng.uniform(3000, 7500), rate)
        return (x / x.std() + rng.uniform(0.05, 0.5) * air / air.std()) * _shape(s, 0.1, 0.2)

    return _repeated(rng, n, rate, run, (0.05, 0.8))


def signals(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Horns, sirens, telephones and alarms: one or two tones that alternate or sweep."""
    t = np.arange(n) / rate
    low, ratio, beat = rng.uniform(250, 2000), rng.uniform(1, 2), rng.uniform(0.3, 12)
    turn = (np.sin(2 * np.pi * beat * t) > 0).astype(float)
    if rng.random() < 0.5:
        turn = 0.5 + 0.5 * np.sin(2 * np.pi * beat * t)
    x = _harmonics(low * (1 + (ratio - 1) * turn), rate, int(rng.integers(1, 12)), rng.uniform(0.5, 2), rng)
    if rng.random() < 0.5:
        x = x * (np.sin(2 * np.pi * rng.uniform(0.4, 3) * t + rng.uniform(0, 6)) > rng.uniform(-0.8, 0.5))
    return x + 0.002 * rng.standard_normal(n)


def strings(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Plucked strings (Karplus and Strong), alone or in chords."""
    low, scale = rng.uniform(80, 400), (0, 2, 4, 5, 7, 9, 11, 12)

    def pluck() -> np.ndarray:
        length = int(rate * rng.uniform(0.2, 1.2))
        x = np.zeros(length)
        for _ in range(int(rng.choice((1, 1, 2, 3)))):
            period = max(2, int(rate / (low * 2 ** (scale[rng.integers(len(scale))] / 12))))
            burst = np.zeros(length)
            burst[:period] = rng.uniform(-1, 1, min(period, length))
            damping = rng.uniform(0.985, 0.9995)
            x += signal.lfilter([1], np.r_[1, np.zeros(period - 1), -damping / 2, -damping / 2], burst)
        return x * np.minimum(1, np.arange(length)[::-1] / (0.02 * rate))

    return _repeated(rng, n, rate, pluck, (0.0, rng.choice((0.0, 0.2))))


def winds(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Held notes of a flute, a violin or an organ, a melody of them."""
    low, fall, count = rng.uniform(120, 700), rng.uniform(0.7, 2.5), int(rng.integers(2, 16))
    breath = rng.uniform(0, 0.1)

    def note() -> np.ndarray:
        long = rng.uniform(0.15, 1.2)
        s = np.linspace(0, 1, int(rate * long))
        vibrato = 1 + 0.008 * np.sin(2 * np.pi * 5.5 * s * long) * (s > 0.3)
        x = _harmonics(low * 2 ** (rng.integers(0, 13) / 12) * vibrato, rate, count, fall, rng)
        return (x / x.std() + breath * rng.standard_normal(len(s))) * _shape(s, rng.uniform(0.02, 0.2), 0.15)

    return _repeated(rng, n, rate, note, (0.0, 0.1))


def bells(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Bells, glasses and metal: partials that fit no series, each dying away at its own pace."""
    base = np.exp(rng.uniform(np.log(150), np.log(2500)))
    partials = [(rng.uniform(0.4, 6), rng.uniform(0.2, 1), rng.uniform(1, 7)) for _ in range(7)]
    long = rng.uniform(0.5, 2.5)

    def stroke() -> np.ndarray:
        t = np.arange(int(rate * long)) / rate
        struck = base * rng.choice((1.0, 1.0, 1.19, 1.5))
        return sum(
            a * np.sin(2 * np.pi * struck * r * t + rng.uniform(0, 6)) * np.exp(-d * t)
            for r, a, d in partials
            if struck * r < 0.45 * rate
        ) + np.zeros(len(t))

    return _repeated(rng, n, rate, stroke, (-0.3 * long, rng.uniform(0.1, 1.2)))


def strokes(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Sawing, sweeping, scratching and breathing: noise of one band that comes in uneven strokes."""
    low = np.exp(rng.uniform(np.log(300), np.log(2500)))
    high, long = low * rng.uniform(1.5, 4), rng.uniform(0.08, 0.5)

    def stroke() -> np.ndarray:
        s = np.linspace(0, 1, int(rate * long * rng.uniform(0.7, 1.3)))
        x = band(rng.standard_normal(len(s)), low * rng.uniform(0.8, 1.25), high, rate, 1)
        if rng.random() < 0.5:
            x = x * (0.5 + 0.5 * np.sign(np.sin(2 * np.pi * rng.uniform(40, 150) * s * long)))
        return x * _shape(s, 0.3, 0.3)

    return _repeated(rng, n, rate, stroke, (0.02, rng.uniform(0.05, 0.5)))


def drums(rng: Rng, n: int, rate: int) -> np.ndarray:
    """A drum kit that plays a bar over and over: skins, rims and cymbals on an uneven grid."""
    step = int(rate * 60 / rng.uniform(80, 170) / 4)
    bar = [
        (rng.uniform(0, 1), int(rng.integers(0, 3))) if rng.random() < 0.55 else (0.0, 0) for _ in range(16)
    ]
    t = np.arange(int(0.35 * rate)) / rate
    pitch = rng.uniform(90, 220)
    kit = (
        np.sin(2 * np.pi * pitch * np.cumsum(1 + 1.5 * np.exp(-t * 40)) / rate) * np.exp(-t * 14),
        0.8 * (np.sin(2 * np.pi * 1.8 * pitch * t) + rng.standard_normal(len(t))) * np.exp(-t * 20),
        0.5 * band(rng.standard_normal(len(t)), 5000, 7800, rate) * np.exp(-t * rng.uniform(15, 60)),
    )
    x = np.zeros(n)
    for number, start in enumerate(range(0, n, step)):
        strength, part = bar[number % 16]
        place(x, strength * kit[part], start)
    return x + 0.003 * rng.standard_normal(n)


def sweeps(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Electronic effects: frequency modulation, lasers, bleeps of a game."""

    def effect() -> np.ndarray:
        s = np.linspace(0, 1, int(rate * rng.uniform(0.05, 0.8)))
        start, end = np.exp(rng.uniform(np.log(100), np.log(4000), 2))
        pitch = start * (end / start) ** s
        carrier = 2 * np.pi * np.cumsum(pitch) / rate
        x = np.sin(carrier + rng.uniform(0, 6) * np.sin(carrier * rng.choice((0.25, 0.5, 1.41, 2, 3))))
        return (np.sign(x) if rng.random() < 0.3 else x) * _shape(s, 0.05, 0.3)

    return _repeated(rng, n, rate, effect, (0.02, rng.uniform(0.1, 0.8)))


def bubbles(rng: Rng, n: int, rate: int) -> np.ndarray:
    """Frogs, bubbles and croaks: short low bursts of a rising pitch."""
    base, rough = rng.uniform(150, 900), rng.random() < 0.5

    def bubble() -> np.ndarray:
        s = np.linspace(0, 1, int(rate * rng.uniform(0.04, 0.35)))
        x = _harmonics(base * rng.uniform(0.7, 1.4) * (1 + rng.uniform(0, 0.9) * s), rate, 4, 1.5, rng)
        if rough:
            x = x * (np.sin(2 * np.pi * rng.uniform(25, 60) * s) > -0.3)
        return x * _shape(s, 0.1, 0.5)

    ripple = clicks(rng, n, rate, 5, 300, 1200, 0.03)
    x = _repeated(rng, n, rate, bubble, (0.02, rng.uniform(0.05, 0.9)))
    return x + rng.uniform(0, 0.1) * x.std() / ripple.std() * ripple


KINDS: dict[str, Callable[[Rng, int, int], np.ndarray]] = {
    kind.__name__: kind
    for kind in (
        speech, cry, chirps, insects, engine, whirr, signals, strings, winds, bells, strokes, drums, sweeps,
        bubbles,
    )
}  # fmt: skip


def synthesize_outside(
    kind: str, seed: int, lufs: float = -25.0, seconds: float = 5.0, rate: int = 16000
) -> Sound:
    """A sound of one of KINDS as a mono Sound at `lufs`; the same arguments give the same samples.

    Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"There is no kind of sound '{kind}': choose one of {', '.join(KINDS)}.")
    rng = np.random.default_rng([seed, 100 + list(KINDS).index(kind)])
    n = int(seconds * rate)
    return at_loudness(recorded(KINDS[kind](rng, n, rate), rng, rate), lufs, rate)


def examples(of_each: int = 10, seconds: float = 3.0) -> list[Sound]:
    """Sounds of every kind, soft and loud, against which an encoder learns what it does not know."""
    return [
        synthesize_outside(kind, seed, -15.0 - 30.0 * seed / of_each, seconds)
        for kind in KINDS
        for seed in range(of_each)
    ]
