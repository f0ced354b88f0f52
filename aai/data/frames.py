"""A clip's pictures: frames of its video, and which of them show what its label says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..decode import origin
from ..errors import InputError
from ..files import local

if TYPE_CHECKING:
    from PIL import Image


def video_frames(path: Path, count: int, start: float, seconds: float) -> list[Image.Image]:
    """The frames on screen at the middles of `count` equal parts of `seconds` from `start` on, as
    `audio.load` counts them (of what there is of them), in time; fewer where the video has fewer.

    Raises InputError for a file that is damaged or holds no pictures.
    """
    import av

    try:
        with av.open(local(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise InputError(f"'{path}' has no pictures: give its frames beside it, or a video.")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            return _pick(container, stream, count, start, seconds)
    except av.FFmpegError as error:
        raise InputError(f"'{path}' cannot be read as a video ({error.strerror}): it may be damaged.")


def _pick(container, stream, count: int, start: float, seconds: float) -> list[Image.Image]:
    import av

    zero = origin(container)
    length = container.duration / av.time_base - start if container.duration else seconds
    step = min(seconds, max(length, 0.0)) / count
    wanted = [start + (i + 0.5) * step for i in range(count)]
    if start > 0:
        container.seek(int((start + zero) / stream.time_base), stream=stream)
    chosen, shown = [], None
    try:
        for number, frame in enumerate(container.decode(stream)):
            time = number / (stream.average_rate or 25) if frame.time is None else frame.time - zero
            while len(chosen) < count and time > wanted[len(chosen)]:
                chosen.append(shown or frame)
            shown = frame
            if len(chosen) == count:
                break
    except av.FFmpegError:
        # A video cut off in the middle still shows what came before, as in any player.
        if shown is None:
            raise
    if shown is None:
        raise InputError(f"'{container.name}' shows nothing from {start:g} s on: start earlier.")
    chosen += [shown] * (len(chosen) < count)
    return [_upright(frame) for frame in dict.fromkeys(chosen)]


def _upright(frame) -> Image.Image:
    """A frame as players show it: phones write what their sensor sees, and how far to turn it."""
    # Older versions of PyAV do not tell it.
    return frame.to_image().rotate(getattr(frame, "rotation", 0), expand=True)


def evenly(there: int, keep: int) -> list[int]:
    """`keep` numbers evenly spaced among 0 .. there - 1; all, where there are no more."""
    return list(range(there)) if there <= keep else [int((i + 0.5) * there / keep) for i in range(keep)]


def best(scores: list[float], keep: int) -> list[int]:
    """The numbers of the `keep` highest scores, in time; of equal ones the earlier."""
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:keep])
