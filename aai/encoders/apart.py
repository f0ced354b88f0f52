"""The sounds of a recording, told apart by what an encoder hears in parts of it over time and frequency.

A recording's spectrogram is split in a few ways: by non-negative matrix factorization into two, three and
four parts that each have one spectrum and come and go (Smaragdis and Brown, 2003), and by median filters into
what lasts and what is sudden (Fitzgerald, 2010). No split knows any sound. Every part is made a sound again,
with the recording's phases, and the encoder hears it. Where it hears more of one word than of the others is
that word's map over time and frequency; the maps share the recording out among its words, so that the parts
add up to it.

Which words there are, `Presence` tells where the encoder has one; for others it is what their best parts say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import SILENCE_LUFS, Sound, loudness, sound_hash
from ..errors import InputError
from .base import SoundEmbedding, SoundEncoder, encode_sound, knows, word_shares
from .presence import THRESHOLD

N_FFT, HOP = 1024, 256
"""At 16 kHz, and in proportion at other rates."""
BANDS = 64
ROUNDS = 50
LASTING, SUDDEN = 31, 17
"""Frames and bands over which the median filters go."""
BEST = 3
"""Parts whose word counts, of an encoder without `Presence`."""
LEAST = 0.5
"""What a word after the first must reach there to be a sound of the recording."""
CONTRAST, SHARPNESS = 0.2, 4.0
"""The temperature of what a part has more of a word than of the others, by which it counts in the word's map;
and the power of the maps where they share the recording out. Of {0.03, 0.1, 0.2, 0.4} and {1, 2, 4} these
came nearest to the loudness of both sounds, on mixtures to develop on."""
LONGEST, MOST = 30.0, 3
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Part:
    """One sound of a recording: its embedding (f_a, loudness in LUFS, name), its word and how probable it is
    that the recording has it, its share of the loudness energy of all parts, and the sound itself, at the
    encoder's rate, with the recording's channels. Its f_a is what the encoder hears in the part of a split
    where it hears most of the word."""

    embedding: SoundEmbedding
    word: str
    probability: float
    share: float
    sound: Sound


def take_apart(encoder: SoundEncoder, sound: Sound, most: int = 2, name: str = "") -> list[Part]:
    """Up to `most` sounds of a recording, the most probable first: one always, others where they are as
    probable as LEAST, or as THRESHOLD where the encoder has a `Presence`. Two of one kind are one; a
    recording with one sound comes back whole.

    Raises InputError where `encode_sound` does, for an encoder without words, for more than MOST sounds and
    for more than LONGEST seconds.
    """
    if not 1 <= most <= MOST:
        raise InputError(f"{most} sounds cannot be told apart: ask for 1 to {MOST}.")
    if not encoder.labels:
        raise InputError(
            f"The encoder '{encoder.name}' knows no words, by which sounds are told apart: align or "
            "bridge it first."
        )
    whole = encode_sound(encoder, sound, name)
    if sound.seconds > LONGEST:
        raise InputError(
            f"The recording lasts {sound.seconds:.0f} s, too long to be taken apart: take a part of up to "
            f"{LONGEST:g} s of it."
        )
    recording = sound.resample(encoder.rate)
    heard = None
    if encoder.presence is None:
        heard = _hear_splits(encoder, recording)
        probable = heard.shares.topk(min(BEST, len(heard.shares)), 0).values.mean(0)
    else:
        probable = encoder.presence(encoder, recording)
    order = probable.argsort(descending=True)[:most].tolist()
    least = LEAST if encoder.presence is None else THRESHOLD
    words = [w for place, w in enumerate(order) if place == 0 or probable[w] >= least]
    if len(words) == 1:
        return [Part(whole, encoder.labels[words[0]], float(probable[words[0]]), 1.0, recording)]
    heard = heard or _hear_splits(encoder, recording)
    shares = heard.shares[:, words]
    contrast = (2 * shares - shares.sum(1, keepdim=True)) / CONTRAST
    maps = torch.einsum("sw,sft->wft", contrast.softmax(0), heard.masks) ** SHARPNESS + TINY
    made = []
    for word, own in zip(words, maps / maps.sum(0)):
        part = _masked(recording, own)
        if loudness(part) > SILENCE_LUFS:
            f_a = heard.f_a[heard.shares[:, word].argmax()]
            made.append((word, _embedding(encoder, f_a, part, whole, encoder.labels[word]), part))
    if len(made) < 2:
        # The rest is too faint to be anything by itself.
        word = made[0][0] if made else words[0]
        return [Part(whole, encoder.labels[word], float(probable[word]), 1.0, recording)]
    energy = [10 ** (embedding.loudness / 10) for _, embedding, _ in made]
    return [
        Part(embedding, encoder.labels[word], float(probable[word]), own / sum(energy), part)
        for (word, embedding, part), own in zip(made, energy)
    ]


@dataclass(frozen=True, eq=False)
class _Splits:
    """Masks [S, F, T], what the encoder hears through them, f_a [S, dim], and its words' shares [S, L]; both
    are 0 where that is silent."""

    masks: Tensor
    f_a: Tensor
    shares: Tensor


def _hear_splits(encoder: SoundEncoder, recording: Sound) -> _Splits:
    mono = recording.mono().waveform
    masks, spectrum = splits(mono[0], recording.rate)
    parts = [
        Sound(part[None], recording.rate)
        for part in _waveforms(masks, spectrum, recording.rate, mono.shape[1])
    ]
    loud = torch.tensor([loudness(part) > SILENCE_LUFS for part in parts])
    f_a, shares = torch.zeros(len(parts), encoder.dim), torch.zeros(len(parts), len(encoder.labels))
    if loud.any():
        audible = [part for part, is_loud in zip(parts, loud) if is_loud]
        f_a[loud] = encoder.embed(audible, own_length=True).float().cpu()
        shares[loud], _ = word_shares(encoder, f_a[loud])
    return _Splits(masks, f_a, shares)


def _embedding(
    encoder: SoundEncoder, f_a: Tensor, part: Sound, whole: SoundEmbedding, word: str
) -> SoundEmbedding:
    known, is_known = knows(encoder, f_a)
    return replace(
        whole,
        f_a=f_a,
        loudness=loudness(part),
        sound=f"{whole.sound}, {word}",
        hash=sound_hash(part),
        known=known,
        is_known=is_known,
    )


def _frame(rate: int) -> tuple[int, int]:
    size = 2 ** round(np.log2(N_FFT * rate / 16000))
    return size, size * HOP // N_FFT


def _spectra(waveforms: Tensor, rate: int) -> Tensor:
    """[C, T] to [C, F, T']."""
    size, hop = _frame(rate)
    short = max(0, size - waveforms.shape[-1])
    window = torch.hann_window(size)
    return torch.stft(F.pad(waveforms, (0, short)), size, hop, window=window, return_complex=True)


def _waveforms(masks: Tensor, spectrum: Tensor, rate: int, samples: int) -> Tensor:
    size, hop = _frame(rate)
    padded = max(samples, size)
    made = torch.istft(masks * spectrum, size, hop, window=torch.hann_window(size), length=padded)
    return made[..., :samples]


def _masked(recording: Sound, mask: Tensor) -> Sound:
    samples = recording.waveform.shape[1]
    spectra = _spectra(recording.waveform, recording.rate)
    return replace(recording, waveform=_waveforms(mask, spectra, recording.rate, samples))


def splits(waveform: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Masks [S, F, T] in [0, 1] over a waveform's [samples] spectrogram, and that, complex [F, T]."""
    spectrum = _spectra(waveform[None], rate)[0]
    band = _bands(rate)
    power = torch.zeros(BANDS, spectrum.shape[1]).index_add_(0, band, spectrum.abs().square())
    amplitude = power.sqrt().numpy() + TINY
    masks = []
    for start in _starts(amplitude.shape):
        parts = _factors(amplitude, *start)
        masks += [part / (sum(parts) + TINY) for part in parts]
        if len(parts) > 2:
            masks += [1 - part / (sum(parts) + TINY) for part in parts]
    lasting = _lasting(amplitude)
    masks += [lasting, 1 - lasting]
    return torch.from_numpy(np.stack(masks)).float()[:, band], spectrum


def _bands(rate: int) -> Tensor:
    """The band of every frequency [F], of BANDS that are as wide as the ear's (mel)."""
    frequency = torch.linspace(0, rate / 2, _frame(rate)[0] // 2 + 1)
    mel = torch.log1p(frequency / 700)
    return (mel / mel[-1] * (BANDS - 1e-3)).long()


def _starts(shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What factorizations begin from, spectra [F, K] and times [K, T]: low and high, early and late, and
    as if by chance two, three and four parts."""
    rng = np.random.default_rng(0)
    rise = [np.linspace(0.05, 1, side) for side in shape]
    fall = [line[::-1] for line in rise]
    flat = [np.ones((side, 2)) for side in shape]
    starts = [
        (np.stack([fall[0], rise[0]], 1), flat[1].T.copy()),
        (flat[0], np.stack([fall[1], rise[1]])),
    ]
    for count in (2, 3, 4):
        starts.append((rng.uniform(0.1, 1, (shape[0], count)), rng.uniform(0.1, 1, (count, shape[1]))))
    return [(w + 0.01 * rng.random(w.shape), h + 0.01 * rng.random(h.shape)) for w, h in starts]


def _factors(amplitude: np.ndarray, w: np.ndarray, h: np.ndarray) -> list[np.ndarray]:
    """The parts [F, T] of a factorization by Kullback-Leibler divergence (Lee and Seung, 2001)."""
    for _ in range(ROUNDS):
        w = w * ((amplitude / (w @ h + TINY)) @ h.T) / (h.sum(1) + TINY)
        h = h * (w.T @ (amplitude / (w @ h + TINY))) / (w.sum(0)[:, None] + TINY)
    return [np.outer(w[:, k], h[k]) for k in range(w.shape[1])]


def _lasting(amplitude: np.ndarray) -> np.ndarray:
    from scipy.ndimage import median_filter

    along, across = median_filter(amplitude, (1, LASTING)), median_filter(amplitude, (SUDDEN, 1))
    return along**2 / (along**2 + across**2 + TINY**2)
