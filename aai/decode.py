"""A file's sound track as PyAV decodes it, piece by piece."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

LATEST = 1e9
"""Seconds, thirty years: no sound lasts that long."""
JITTER = 0.05
"""Seconds by which a track's time stamps may err: nobody sees sound and picture that far apart."""
SOUGHT, SOUGHT_CODECS = {"wav", "w64", "aiff", "flac"}, ("pcm_", "flac")
"""Formats, and the beginnings of codecs' names, in which a place is found to the sample by its time. ffmpeg
guesses the time of other codecs in these formats: ADPCM's is off by more the later it is."""
NEARER = 5.0
"""Seconds up to which it is as well to decode what comes before."""
DISCONTINUOUS = 0x0200
"""ffmpeg's AVFMT_TS_DISCONT: formats whose time stamps may jump, as in joined pieces of television."""


@dataclass(frozen=True)
class Piece:
    """Samples [C, n] in float32, their rate in Hz, and where the channels stand in ffmpeg's names; None where
    the file does not say."""

    samples: np.ndarray
    rate: int
    layout: tuple[str, ...] | None


def origin(container) -> float:
    """The time stamp, in seconds, at which an open file's own time begins: that of its first track."""
    return (container.start_time or 0) / 1e6


def pieces(
    container, stream, check_rate: Callable[[int], None], start: float, seconds: float | None
) -> Iterator[Piece]:
    """A track from `start` for `seconds` (None: to its end); nothing where none is left. A hole's silence, or
    what comes before a late track, is one zero seen many times: a piece of hours needs no memory.
    `check_rate` raises for a rate that cannot be."""
    position, rate, channels, layout, epoch = 0, 0, 0, None, origin(container)
    length = container.duration / 1e6 if container.duration else math.inf
    longest_hole = 10.0 if container.format.flags & DISCONTINUOUS else LATEST
    sought = container.format.name in SOUGHT and stream.codec_context.name.startswith(SOUGHT_CODECS)
    if sought and NEARER < start < length:
        # What is left out is taken for a track that begins late.
        container.seek(int((epoch + start - 1) * 1e6))

    def wanted(samples: np.ndarray) -> Iterator[Piece]:
        """The wanted part of the samples that come next."""
        nonlocal position
        begin, end = max(first - position, 0), min(last - position, samples.shape[1])
        position += samples.shape[1]
        if begin < end:
            yield Piece(samples[:, begin : int(end)], rate, layout)

    for time, piece in _float_frames(container, stream):
        samples = piece.to_ndarray().reshape(-1, layout_of(piece).nb_channels).T
        is_first = not rate
        if is_first:
            rate, channels = piece.sample_rate, len(samples)
            check_rate(rate)
            names = tuple(channel.name for channel in layout_of(piece).channels)
            # A wav file need not say where its channels stand.
            layout = None if {"NONE", "UNK"} & set(names) else names
            first = round(start * rate)
            last = math.inf if seconds is None else first + round(seconds * rate)
        if time is not None:
            hole = time - epoch - position / rate
            if (0 if is_first else JITTER) < hole < longest_hole and time - epoch <= length + JITTER:
                yield from wanted(np.broadcast_to(np.float32(0), (channels, round(hole * rate))))
            elif abs(hole) > JITTER:
                # Joined files, whose time restarts.
                epoch += hole
        if len(samples) != channels:
            samples = samples.mean(0, keepdims=True).repeat(channels, 0)
        if position < last:
            yield from wanted(samples)
        if position >= last:
            break


def layout_of(frame):
    """A frame's layout, which may be read no other way.

    PyAV 18 frees a layout whose channels are not in ffmpeg's own order twice, with its frame, which ends the
    process: so such a layout is never freed.
    """
    layout = frame.layout
    if "channels (" in layout.name:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return layout


def _float_frames(container, stream):
    """Yields a track's frames as float32 at the rate of the first one, each with its time stamp in seconds
    (None where it has none, or continues one that has). What cannot be decoded is skipped, as players
    do: a frame that is cut off, a tag between two joined files. Raises the first error where nothing can be
    decoded."""
    import av

    rate, source_format, to_float, failure = None, None, None, None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = [] if packet is None else packet.decode()
        except av.FFmpegError as error:
            failure = failure or error
            continue
        if packet is None:
            break
        for frame in frames:
            # An mp3 frame's own rate changes one frame late.
            frame.sample_rate = stream.codec_context.sample_rate
            frame_format = frame.format.name, layout_of(frame).name, frame.sample_rate
            if frame_format != source_format:
                if to_float:
                    yield from ((None, piece) for piece in to_float.resample(None))
                rate = rate or frame.sample_rate
                # Interleaved: PyAV reads planar frames of 8 channels past their end.
                source_format, to_float = frame_format, av.AudioResampler(format="flt", rate=rate)
            time = frame.time
            for piece in to_float.resample(frame):
                layout_of(piece)
                yield time, piece
                time = None
    if to_float:
        yield from ((None, piece) for piece in to_float.resample(None))
    elif failure:
        raise failure
