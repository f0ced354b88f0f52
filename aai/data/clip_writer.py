"""Writing prepared clips: each is made in a work folder and moved into place when it is whole."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .. import audio
from ..audio import SHORTEST
from ..encoders.clip import fetch_clip
from ..errors import InputError
from ..files import replace
from .clips import Clip, File, as_row, is_plain, shard_clips
from .frames import best, evenly, video_frames
from .listing import Item
from .shards import pack

WORK = ".work"
"""The folder, within the dataset's, for clips that are being made."""
QUIETEST_AMPLITUDE = 1 / 32768
"""A sound below the last bit of 16 is silent."""


@dataclass(frozen=True)
class PrepareSettings:
    """How clips are made: sounds at `rate` Hz, mono, up to `seconds` long, as `sound` ("flac" or "wav");
    `frames` pictures of each, of which `keep` stay, their shorter side at most `size` pixels. `clip` ranks
    them: transformers' folder of a CLIP or a hub name ("" keeps evenly spaced ones). `shard` clips to a tar
    (0: folders)."""

    rate: int = 16000
    seconds: float = 10.0
    frames: int = 20
    keep: int = 10
    size: int = 256
    sound: str = "flac"
    clip: str = ""
    shard: int = 0

    def __post_init__(self) -> None:
        if self.sound not in ("flac", "wav"):
            raise InputError(f"'{self.sound}' is not a kind of sound to write: choose flac or wav.")
        if min(self.rate, self.seconds, self.frames, self.keep, self.size) <= 0 or self.shard < 0:
            raise InputError("Rate, seconds, frames, keep and size must be above 0: correct them.")


@dataclass(frozen=True)
class Unit:
    """What is made and moved at once: a clip, or the clips of a shard. `name` is its path in the dataset."""

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: rows of the manifest, (id, label, reason) of bad clips, and the error that must
    stop the run, "" for none."""

    rows: list[dict] = field(default_factory=list)
    bad: list[list[str]] = field(default_factory=list)
    error: str = ""


def full(out: Path, error: Exception) -> str:
    """Error text for a full disk, or one that may not be written to."""
    reason = getattr(error, "strerror", None) or error
    what = "allow it" if isinstance(error, PermissionError) else "make room"
    return (
        f"'{out}' does not take more ({reason}): {what}, then run the same again; it resumes where it "
        "stopped."
    )


def make_unit(unit: Unit, out: Path, settings: PrepareSettings, device: str = "cpu") -> Outcome:
    """Makes a unit's clips and moves them into place."""
    try:
        clip = fetch_clip(settings.clip, device) if settings.clip else None
    except InputError as error:
        return Outcome(error=str(error))
    work = out / WORK / f"{Path(unit.name).name}.{os.getpid()}"
    made, bad, scores = [], [], {}
    try:
        shutil.rmtree(work, ignore_errors=True)
        for item in unit.items:
            try:
                sound, pictures = _read(item, settings)
            except InputError as error:
                bad.append([item.id, item.label, str(error)])
                continue
            except Exception as error:  # Decoders fail in many ways, and one video must not stop a set.
                bad.append([item.id, item.label, f"it cannot be decoded ({type(error).__name__}: {error})"])
                continue
            if clip:
                cosines = clip.scores(pictures, item.label)
                kept = best(cosines, settings.keep)
                scores[item.id] = [round(cosines[i], 4) for i in kept]
            else:
                kept = evenly(len(pictures), settings.keep)
            made.append(_write(item, sound, [pictures[i] for i in kept], work / item.id, settings))
        rows = _place(unit, made, work, out, settings) if made else []
    except (OSError, _NotWritten) as error:
        return Outcome(error=full(out, error))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Outcome([{**row, "scores": scores[row["id"]]} if scores else row for row in rows], bad)


class _NotWritten(Exception):
    """A sound could not be written."""


def _read(item: Item, settings: PrepareSettings) -> tuple[audio.Sound, list]:
    """The sound and the pictures of an item. Raises InputError where one is missing, silent or damaged."""
    if item.why:
        raise InputError(item.why)
    seconds = settings.seconds if item.seconds is None else min(item.seconds, settings.seconds)
    sound = audio.load(item.media, item.start, seconds).mono().resample(settings.rate)
    if sound.seconds < SHORTEST:
        raise InputError(f"its sound lasts {sound.seconds:.2f} s")
    if sound.waveform.abs().max() < QUIETEST_AMPLITUDE:
        raise InputError("its sound is silent")
    if item.pictures:
        there = [item.pictures[i] for i in evenly(len(item.pictures), settings.frames)]
        pictures = [_picture(path) for path in there]
    elif item.media.suffix.lower() in audio.VIDEOS:
        pictures = video_frames(item.media, settings.frames, item.start, seconds)
    else:
        raise InputError("it has no pictures")
    return sound, [_reduce(picture, settings.size) for picture in pictures]


def _picture(path: Path):
    from ..image import load, to_pil

    # A pipe called x.jpg would be waited for without end.
    if not is_plain(path):
        raise InputError(f"its picture '{path.name}' is gone")
    return to_pil(load(path))


def _reduce(picture, size: int):
    """A picture whose shorter side is at most `size`."""
    shorter = min(picture.size)
    if shorter <= size:
        return picture
    # Cut off as torchvision does, so that a reduced frame is what the encoder would have made of it.
    return picture.resize([side * size // shorter for side in picture.size], resample=3)


def _write(item: Item, sound: audio.Sound, pictures: list, folder: Path, settings: PrepareSettings) -> Clip:
    folder.mkdir(parents=True)
    kind = "wav" if audio.is_beyond_full_scale(sound) else settings.sound
    path = folder / f"sound.{kind}"
    try:
        audio.save(sound, path)
    except InputError as error:
        raise _NotWritten(error.__context__.strerror if error.__context__ else error)
    files = [folder / f"{number}.jpg" for number in range(len(pictures))]
    for picture, file in zip(pictures, files):
        picture.save(file, quality=90)
    return Clip(item.id, item.label, File(path), tuple(map(File, files)), item.split)


def _place(unit: Unit, made: list[Clip], work: Path, out: Path, settings: PrepareSettings) -> list[dict]:
    """Moves finished clips into the dataset; returns the rows of the manifest."""
    final = out / unit.name
    if settings.shard:
        pack(made, work / "shard.tar")
        replace(work / "shard.tar", final)
        return [as_row(clip, out) for clip in shard_clips(final)]
    final.parent.mkdir(exist_ok=True)
    # An older folder is not in the journal, or is to be replaced.
    shutil.rmtree(final, ignore_errors=True)
    replace(work / made[0].id, final)
    (clip,) = made
    moved = [File(final / file.path.name) for file in (clip.sound, *clip.pictures)]
    return [as_row(Clip(clip.id, clip.label, moved[0], tuple(moved[1:]), clip.split), out)]
