"""Writes films: pictures and their sound, through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from . import files
from .audio import Sound, laid_out
from .errors import InputError
from .files import local

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""ffmpeg's formats in which films are written, by file ending."""
PICTURES = ("libx264", "h264", "mpeg4")
"""Codecs in the order in which they are tried: H.264 plays everywhere."""
SOUNDS = ("aac", "libmp3lame")
RATE = 48000
"""Hz of a film's sound: what every player takes."""
BT601, LIMITED = 6, 1
"""ffmpeg's numbers of the colour matrix and range that a picture in RGB is encoded with."""
MAKER = "aai"
QUALITY = {"libx264": {"crf": "17"}, "mpeg4": {"qscale": "3"}}


def codecs() -> tuple[str, str]:
    """The codecs of a film's pictures and of its sound. Raises InputError where this PyAV has none."""
    import av

    found = [next((name for name in names if _encodes(av, name)), None) for names in (PICTURES, SOUNDS)]
    if None in found:
        wanted = " or ".join(PICTURES if found[0] is None else SOUNDS)
        raise InputError(
            f"This PyAV ({av.__version__}) writes no films, as it has no codec {wanted}: install another, or "
            "name a folder for the frames."
        )
    return found[0], found[1]


def _encodes(av, name: str) -> bool:
    try:
        return av.codec.Codec(name, "w").is_encoder
    # Not one of ffmpeg's errors: a codec of no such name.
    except ValueError:
        return False


def write(
    path: str | os.PathLike,
    pictures: Iterable[np.ndarray],
    rate: float,
    sound: Iterable[Sound] = (),
    name: str = "The film",
) -> None:
    """Writes pictures [H, W, 3] in uint8, all of one size with even sides, at `rate` a second, and a sound in
    blocks (`audio.stream`), in one move. A picture and a block are kept at a time.

    Raises InputError for another ending than CONTAINERS', where there is no codec, or the disk does not take
    it.
    """
    import av

    container_format = CONTAINERS.get(Path(path).suffix.lower())
    if container_format is None:
        raise InputError(f"'{path}' is no name of a film: let it end in {' or '.join(CONTAINERS)}.")
    of_pictures, of_sound = codecs()
    fraction = Fraction(rate).limit_denominator(1001)
    with files.writing(path, name) as unfinished:
        try:
            with av.open(local(unfinished), "w", format=container_format) as container:
                container.metadata["comment"] = MAKER
                track = _Sound(container, of_sound, iter(sound))
                film = None
                for number, picture in enumerate(pictures):
                    if film is None:
                        film = container.add_stream(of_pictures, rate=fraction)
                        film.height, film.width = picture.shape[:2]
                        film.pix_fmt, film.options = "yuv420p", QUALITY.get(of_pictures, {})
                        # Untagged, players take a large film's colours for BT.709's.
                        film.codec_context.colorspace, film.codec_context.color_range = BT601, LIMITED
                        track.begin()
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                    frame.pts, frame.time_base = number, 1 / fraction
                    container.mux(film.encode(frame))
                    # By turns, since the muxer holds one stream back until the other comes.
                    track.advance(float((number + 1) / fraction))
                container.mux(film.encode(None))
                track.close()
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


class _Sound:
    """A film's sound track, encoded as far as its pictures have come."""

    def __init__(self, container, codec: str, blocks: Iterator[Sound]):
        self.container, self.codec, self.blocks = container, codec, blocks
        self.stream, self.written = None, 0

    def begin(self) -> None:
        import av

        self.first = next(self.blocks, None)
        if self.first is None:
            return
        layout = "mono" if len(self.first.waveform) == 1 else "stereo"
        self.stream = self.container.add_stream(self.codec, rate=RATE, layout=layout)
        self.resampler = av.AudioResampler(format="fltp", layout=layout, rate=RATE)

    def advance(self, seconds: float) -> None:
        while self.stream is not None and self.written < seconds * RATE:
            block = self.first or next(self.blocks, None)
            self.first = None
            if block is None:
                break
            self._encode(block)

    def close(self) -> None:
        self.advance(float("inf"))
        if self.stream is not None:
            for frame in self.resampler.resample(None):
                self.container.mux(self.stream.encode(frame))
            self.container.mux(self.stream.encode(None))

    def _encode(self, block: Sound) -> None:
        import av

        waveform, layout = laid_out(block)
        samples = waveform.cpu().clamp(-1, 1).numpy()
        stands = set(block.layout or ())
        if (len(samples) > 2 and not stands) or (stands and not stands & {"FL", "FR", "FC"}):
            # Nobody knows how these sound from the front, so that nothing could mix them to two.
            samples, layout = np.repeat(samples.mean(0, keepdims=True), 2, 0), "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate = block.rate
        for piece in self.resampler.resample(frame):
            self.written += piece.samples
            self.container.mux(self.stream.encode(piece))


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a film that this package wrote."""
    import av

    try:
        with av.open(local(path), metadata_errors="ignore") as container:
            return MAKER in (container.metadata.get(key) for key in ("comment", "COMMENT"))
    except (av.FFmpegError, OSError):
        return False
