"""Sounds: reading and writing files, resampling, loudness.

Everything runs on torch, scipy and PyAV, so no ffmpeg binary and no torchaudio is needed. The encoders'
filter bank is in `fbank.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from . import files
from .decode import LATEST, Piece, pieces
from .errors import InputError, logger
from .files import local

log = logger(__name__)

SILENCE_LUFS = -math.inf
LOWEST_RATE = 1000
"""Hz. Below, nothing audible is left, and the rate was most likely not known."""
HIGHEST_RATE = 768_000
"""Hz. No recording has more, and resampling from a higher rate takes a filter that fills the memory."""
MOST_SAMPLES = 200_000_000
"""Over all channels; 800 MB, more than half an hour of stereo at 48 kHz."""
VIDEOS = {
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".f4v", ".mpg", ".mpeg", ".3gp", ".3g2"),
    *(".ts", ".mts", ".m2ts", ".vob", ".ogv", ".wmv", ".asf"),
}
SUFFIXES = VIDEOS | {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga", ".m4a", ".m4b", ".aac"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".wma", ".wv", ".ape", ".tta", ".tak"),
    *(".mka", ".weba", ".ac3", ".eac3", ".dts", ".amr", ".awb", ".mpc", ".sph", ".voc"),
}
"""The endings of files that `load` reads, in folders of them. Listed by hand, since ffmpeg's own lists have
text and pictures among them (.txt, .gif, .avif), and lack .wav."""

SURROUND_5_1 = ("FL", "FR", "FC", "LFE", "BL", "BR")
"""5.1 in ffmpeg's order and names, which is that of wav files too."""
CHANNELS = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL"),
    *("TBC", "TBR", "DL", "DR", "WL", "WR", "SDL", "SDR", "LFE2", "TSL", "TSR", "BFC", "BFL", "BFR"),
)
"""Ffmpeg's names of channels, in the order in which it keeps them."""


@dataclass(frozen=True)
class Sound:
    """A waveform [channels, samples], float32 in [-1, 1], its rate in Hz, and where each channel stands, in
    ffmpeg's names ("FL", "LFE", ...; None where that is not known)."""

    waveform: Tensor
    rate: int
    layout: tuple[str, ...] | None = None

    @property
    def seconds(self) -> float:
        return self.waveform.shape[-1] / self.rate

    def mono(self) -> Sound:
        """The mean of the channels, as one channel."""
        return self if len(self.waveform) == 1 else Sound(self.waveform.mean(0, keepdim=True), self.rate)

    def resample(self, rate: int) -> Sound:
        """The same sound at another rate in Hz: a polyphase filter with scipy's Kaiser window."""
        if rate == self.rate:
            return self
        from scipy.signal import resample_poly

        ratio = Fraction(rate, self.rate)
        samples = resample_poly(self.waveform.cpu().numpy(), ratio.numerator, ratio.denominator, axis=-1)
        return replace(self, waveform=torch.from_numpy(np.ascontiguousarray(samples, np.float32)), rate=rate)

    def cut(self, start: float = 0.0, seconds: float | None = None) -> Sound:
        """The part from `start` that lasts `seconds` (None: to the end).

        Raises InputError where nothing is left.
        """
        first = round(start * self.rate)
        last = None if seconds is None else first + round(seconds * self.rate)
        part = self.waveform[:, max(first, 0) : last]
        if part.shape[-1] == 0:
            raise InputError(
                f"Nothing is left of this {self.seconds:.2f} s sound between {start:g} s and its cut: "
                "start earlier or take a longer part."
            )
        return replace(self, waveform=part)


def from_tensor(
    waveform: Tensor, rate: int, name: str = "The sound", layout: tuple[str, ...] | None = None
) -> Sound:
    """A Sound from [T], [C, T] or [1, C, T] samples on any device; a `layout` of another number of channels
    is left out.

    Raises InputError for an empty sound, a batch of several, samples that are not numbers, or a rate outside
    LOWEST_RATE to HIGHEST_RATE.
    """
    if waveform.ndim == 3:
        if len(waveform) != 1:
            raise InputError(f"{name} is a batch of {len(waveform)}: pass one sound at a time.")
        waveform = waveform[0]
    if waveform.ndim == 1:
        waveform = waveform[None]
    if waveform.ndim != 2 or waveform.numel() == 0:
        raise InputError(f"{name} holds no samples: choose a longer one.")
    _check_rate(rate, name)
    waveform = waveform.detach().float().cpu()
    if not torch.isfinite(waveform).all():
        raise InputError(f"{name} holds samples that are not numbers (NaN or infinite): export it again.")
    return Sound(waveform, int(rate), layout if layout and len(layout) == len(waveform) else None)


def _check_rate(rate: int, name: str) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InputError(f"{name} has a sample rate of {rate} Hz: give its true rate.")


class TooLong(InputError):
    """A sound of more samples than `load` reads at once; `stream` reads it."""


def load(
    path: str | os.PathLike | BinaryIO, start: float = 0.0, seconds: float | None = None, name: str = ""
) -> Sound:
    """Reads the first sound track of an audio or video file, from `start` for `seconds` (None: all of it).
    Both are the file's time: where its track begins late or has a hole, there is silence.

    wav, flac, ogg, mp3, m4a, and whatever else PyAV decodes; any rate and channel count, the first ones where
    they change midway. Only the wanted part is kept in memory. An open file that can seek may stand in for
    the path, and `name` is what errors call it. Raises InputError for a missing, empty, damaged or soundless
    file, for a rate that no recording has, for more than MOST_SAMPLES (TooLong), and where nothing is left
    after trimming.
    """
    parts, kept = [], 0
    with _opened(path, start, seconds, name) as decoded:
        for piece in decoded:
            kept += piece.samples.size
            if kept > MOST_SAMPLES:
                minutes = MOST_SAMPLES / len(piece.samples) / piece.rate / 60
                raise TooLong(
                    f"'{name or path}' is longer than {minutes:.0f} minutes, more than is read at once: take "
                    "a part of it, by its start and its length."
                )
            parts.append(piece.samples)
    samples = np.concatenate(parts, axis=1)
    return from_tensor(torch.from_numpy(samples), piece.rate, f"'{name or path}'", piece.layout)


def stream(
    path: str | os.PathLike | BinaryIO,
    start: float = 0.0,
    seconds: float | None = None,
    block: float = 10.0,
    name: str = "",
) -> Iterator[Sound]:
    """The sound that `load` reads, as consecutive Sounds of `block` seconds, the last one shorter: a file of
    any length in the memory of one of them. Raises InputError as `load` does, but for no length."""
    with _opened(path, start, seconds, name) as decoded:
        held, count = [], 0
        for piece in decoded:
            size, offset = round(block * piece.rate), 0
            while offset < piece.samples.shape[1]:
                part = piece.samples[:, offset : offset + size - count]
                held.append(part)
                offset, count = offset + part.shape[1], count + part.shape[1]
                if count == size:
                    yield _block(held, piece, name or path)
                    held, count = [], 0
        if held:
            yield _block(held, piece, name or path)


def _block(parts: list[np.ndarray], piece: Piece, name: object) -> Sound:
    samples = torch.from_numpy(np.concatenate(parts, axis=1))
    return from_tensor(samples, piece.rate, f"'{name}'", piece.layout)


def length(path: str | os.PathLike) -> float | None:
    """How many seconds a file says that it lasts; None where it does not say. Raises InputError as `load`."""
    import av

    _check_file(local(path), path)
    try:
        with av.open(local(path), metadata_errors="ignore") as container:
            return container.duration / 1e6 if container.duration else None
    except av.FFmpegError as error:
        raise InputError(
            f"'{path}' cannot be read as sound ({error.strerror}): it may be damaged, or no audio file."
        ) from error


def _check_file(source: str, name: object) -> None:
    files.check_file(source, name)
    if Path(source).stat().st_size == 0:
        raise InputError(f"'{name}' is empty (0 bytes): choose another file.")


@contextlib.contextmanager
def _opened(
    path: str | os.PathLike | BinaryIO, start: float, seconds: float | None, name: str
) -> Iterator[Iterator[Piece]]:
    """The wanted part of a file's sound, at least one piece. Raises InputError as `load`, inside too."""
    import av

    source = path if hasattr(path, "read") else local(path)
    path = name or path
    if isinstance(source, str):
        _check_file(source, path)
    if not 0 <= start < LATEST or not (seconds is None or 0 < seconds < LATEST):
        part = f"at {start:g} s" + ("" if seconds is None else f" for {seconds:g} s")
        raise InputError(f"'{path}' cannot be cut {part}: use a start of 0 or more and a length above 0.")
    try:
        with av.open(source, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise InputError(f"'{path}' has no sound track: choose an audio file, or a video with sound.")
            track = container.streams.audio[0]
            if track.codec_context is None:
                raise InputError(
                    f"'{path}' holds sound of a kind that cannot be decoded here: convert it to wav or flac."
                )
            checked = partial(_check_rate, name=f"'{path}'")
            yield _some(pieces(container, track, checked, start, seconds), start, f"'{path}'")
    except av.FFmpegError as error:
        raise InputError(
            f"'{path}' cannot be read as sound ({error.strerror}): it may be damaged, or no audio file."
        )


def _some(decoded: Iterator[Piece], start: float, name: str) -> Iterator[Piece]:
    first = next(decoded, None)
    if first is None:
        raise InputError(
            f"Nothing is left of {name} from {start:g} s on: start earlier or take a longer part."
        )
    yield first
    yield from decoded


def save(sound: Sound, path: str | os.PathLike) -> None:
    """Writes a 16-bit wav or flac file in one move; a wav is of floats where the sound is beyond full scale
    (`is_beyond_full_scale`), and a flac is cut off there, with a warning.

    Raises InputError for another kind of file, or where the disk does not take it.
    """
    import av

    path = Path(path)
    codec = {".wav": "pcm_s16le", ".flac": "flac"}.get(path.suffix.lower())
    if codec is None:
        raise InputError(f"'{path.name}' is no .wav or .flac name: give it one of these endings.")
    channels = len(sound.waveform)
    waveform, layout = laid_out(sound)
    samples, form = waveform.detach().cpu().float(), "s16"
    if is_beyond_full_scale(sound) and codec == "flac":
        log.warning("'%s' is louder than a flac can be, and is cut off: save it as .wav.", path.name)
    elif is_beyond_full_scale(sound):
        codec, form = "pcm_f32le", "flt"
    if form == "s16":
        samples = (samples.clamp(-1, 1) * 32767).round().to(torch.int16)
    samples = samples.T.reshape(1, -1).numpy()
    with files.writing(path, "The sound") as unfinished:
        try:
            with av.open(local(unfinished), "w", format=path.suffix[1:].lower()) as container:
                stream = container.add_stream(codec, rate=sound.rate, layout=layout)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=form, layout=layout)
                frame.sample_rate = sound.rate
                for piece in (frame, None):
                    container.mux(stream.encode(piece))
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
        # FFmpeg names no layout of so many.
        except ValueError as error:
            raise InputError(f"A sound of {channels} channels cannot be written: mix it to fewer.") from error


OVERSHOOT = 2**0.5
"""The amplitude, 3 dB beyond full scale, that a lossy codec or a resampling may make of a loud recording."""


def is_beyond_full_scale(sound: Sound) -> bool:
    """Whether samples lie so far beyond 1 as a recorder of floats brings them, and no codec or resampling."""
    return bool(sound.waveform.numel()) and float(sound.waveform.abs().max()) > OVERSHOOT


def laid_out(sound: Sound) -> tuple[Tensor, str]:
    """The samples [C, T] in ffmpeg's own order of channels, and what it calls their layout. In another order
    PyAV 18 would end the process (`decode.layout_of`)."""
    waveform, names = sound.waveform, sound.layout or ()
    if names and len(set(names)) == len(names) and set(names) <= set(CHANNELS):
        rows = sorted(range(len(names)), key=lambda row: CHANNELS.index(names[row]))
        return waveform[rows], "+".join(names[row] for row in rows)
    return waveform, {1: "mono", 2: "stereo"}.get(len(waveform), f"{len(waveform)}c")


def sound_hash(sound: Sound) -> str:
    """SHA-256 of the rate and the samples, in hex."""
    digest = hashlib.sha256(f"{sound.rate} {tuple(sound.waveform.shape)} ".encode())
    digest.update(np.ascontiguousarray(sound.waveform.cpu().numpy(), dtype="<f4").tobytes())
    return digest.hexdigest()


def k_weighting(rate: int) -> np.ndarray:
    """BS.1770's two filters as second-order sections at any rate (the standard lists 48 kHz; its own
    analogue forms)."""

    def section(f: float, q: float, gain_db: float | None) -> list[float]:
        k = math.tan(math.pi * f / rate)
        a0 = 1 + k / q + k * k
        poles = [1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]
        if gain_db is None:
            return [1.0, -2.0, 1.0, *poles]
        vh = 10 ** (gain_db / 20)
        vb = vh**0.4996667741545416
        zeros = [(vh + vb * k / q + k * k) / a0, 2 * (k * k - vh) / a0, (vh - vb * k / q + k * k) / a0]
        return [*zeros, *poles]

    shelf = section(min(1681.974450955533, 0.45 * rate), 0.7071752369554196, 3.999843853973347)
    return np.array([shelf, section(38.13547087602444, 0.5003270373238773, None)])


def channel_weights(sound: Sound) -> list[float]:
    """BS.1770-4's weight of each channel (table 3; annex 3 for other layouts than 5.1)."""
    channels = len(sound.waveform)
    if sound.layout is None:
        return [1.0, 1.0, 1.0, 1.41, 1.41][:channels] if channels <= 5 else [1.0] * channels
    # Beside side channels the back ones stand at 135 degrees, out of the sector that weighs more.
    surround = {"SL", "SR"} if {"SL", "SR"} & set(sound.layout) else {"BL", "BR"}
    weights = {"LFE": 0.0, "LFE2": 0.0, **dict.fromkeys(surround | {"WL", "WR"}, 1.41)}
    return [weights.get(name, 1.0) for name in sound.layout]


def loudness(sound: Sound) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4: K-weighting, 400 ms blocks, gates at -70 LUFS and -10
    LU).

    By the sound's layout, low-frequency effects count nothing and surrounds 1.41. Without one, channels 4 and
    5 weigh 1.41 as surrounds of a 5-channel sound; with more than 5 channels all weigh the same. A sound
    below 0.4 s is one block, padded with zeros. Silence is -inf.
    """
    from scipy.signal import sosfilt

    waveform = sound.waveform.cpu().numpy()
    channels, count = waveform.shape
    block, hop = round(0.4 * sound.rate), round(0.1 * sound.rate)
    if count < block:
        waveform = np.pad(waveform, ((0, 0), (0, block - count)))
        count = block
    weights = np.array(channel_weights(sound))
    sections = k_weighting(sound.rate)
    # The filter's state is carried from part to part, so 20 minutes need no more memory than ten seconds.
    state = np.zeros((len(sections), channels, 2))
    step = 10 * sound.rate
    tail = np.zeros((channels, 0))
    blocks, offset = [], 0
    for begin in range(0, count, step):
        filtered, state = sosfilt(sections, waveform[:, begin : begin + step], axis=-1, zi=state)
        tail = np.concatenate([tail, filtered**2], axis=1)
        while offset + block <= tail.shape[1]:
            blocks.append(tail[:, offset : offset + block].mean(1))
            offset += hop
        tail, offset = tail[:, offset:], 0
    power = weights @ np.array(blocks).T
    with np.errstate(divide="ignore"):
        levels = -0.691 + 10 * np.log10(power)
    loud = levels > -70
    if not loud.any():
        return SILENCE_LUFS
    gate = -0.691 + 10 * math.log10(power[loud].mean()) - 10
    return float(-0.691 + 10 * math.log10(power[loud & (levels > gate)].mean()))


SHORTEST = 0.1
"""Seconds below which a sound is refused: three frames of a filter bank tell nothing."""


PAUSE = 20.0
"""Decibels below the loudest window from which on a window is a pause: it says what the room sounds like."""


def windows(sound: Sound, rate: int, seconds: float, samples: int = 0) -> list[Tensor]:
    """A sound as consecutive mono waveforms [up to rate * seconds] at `rate`; each overlaps the next up to
    `samples`, where that is more. The last one is left out when it is shorter than a quarter of a whole one
    and not alone; so are pauses, whose embeddings would count as much as the sound's."""
    waveform = sound.mono().resample(rate).waveform[0]
    size = round(seconds * rate)
    begins = range(0, len(waveform), size)
    if len(begins) > 1 and len(waveform) - begins[-1] < size // 4:
        begins = begins[:-1]
    parts = [waveform[begin : begin + max(size, samples)] for begin in begins]
    # Of what is heard: a recorder's offset would be as loud in a pause.
    powers = [float((part - part.mean()).square().mean()) for part in parts]
    least = max(powers) * 10 ** (-PAUSE / 10)
    return [part for part, power in zip(parts, powers) if power >= least]
