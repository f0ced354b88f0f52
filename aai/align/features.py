"""What training needs of clips, encoded once: filter banks, picture features and label vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import SHORTEST
from ..data.clips import Clip, File
from ..distributed import ALONE, Distributed
from ..encoders.base import Inaudible, audible_loudness
from ..encoders.cavmae import pool
from ..encoders.cavmae_encoder import CAVMAEEncoder
from ..encoders.fingerprint import digest
from ..errors import InputError
from .feature_store import DiskStore, MemoryStore, stamp

CHUNK = 8
"""Clips that are encoded together, and lost together where a process is killed."""


@torch.no_grad()
def encode(
    encoder: CAVMAEEncoder,
    clips: list[Clip],
    vectors: Mapping[str, Tensor] | None = None,
    keep_tokens: bool = False,
    callback: Callable[[int, int], None] | None = None,
    store: Path | None = None,
    distributed: Distributed = ALONE,
    folder: Path | None = None,
) -> Features:
    """Sounds to filter banks, pictures to features, labels to text vectors.

    `vectors` holds the text tower's vector [D] of every label; without it the encoder's own table serves.
    `keep_tokens` keeps what momentum "literal_shared" needs. `callback(clips done, clips)` may raise to stop.
    With a `store`, a folder that all processes see, they share the work and its results are kept: a file that
    has not changed is not encoded again, and `folder`, where the data is, may be a copy of the one that it
    was encoded from. Clips without anything to hear (`audible_loudness`) are left out. Raises InputError for
    a file that cannot be read, a label without a vector, clips of which none can be heard, and a full disk.
    """
    _label_table(encoder, clips, vectors)
    if store is None and distributed.count > 1:
        raise InputError("Several processes share their work through a store: name a folder for it.")
    stores = _open_stores(encoder, store, keep_tokens, distributed)
    lists = _picture_lists(clips)
    files = dict.fromkeys(chain((clip.sound for clip in clips), *lists))
    stamps = {file: stamp(file, folder) for file in files}
    jobs = _jobs(clips, stamps, stores)
    done = len(clips) - len(jobs)
    for chunk in _prefetched(encoder, jobs[distributed.rank :: distributed.count]):
        _encode_chunk(encoder, chunk, stamps, stores)
        for _ in chunk:
            done += distributed.count
            if callback:
                callback(min(done, len(clips)), len(clips))
    distributed.wait()
    frames = None if stores.frames is None else stores.frames.reopen()
    fbanks, f_v = stores.sounds.reopen(), stores.pictures.reopen()
    tokens_v = None if stores.tokens is None else stores.tokens.reopen()

    def rows(array: MemoryStore | DiskStore, file: File) -> range:
        stored = array.find(stamps[file])
        if stored is None:
            raise InputError(f"'{store}' does not hold '{file}': name a folder that all processes see.")
        return stored

    silent = {clip.sound for clip in clips if not rows(stores.sounds, clip.sound)}
    heard = [clip for clip in clips if clip.sound not in silent]
    left_out = tuple(clip for clip in clips if clip.sound in silent)
    if not heard:
        raise InputError(
            f"None of the {len(clips)} clips from '{clips[0].sound}' on can be heard (silent, or less than "
            f"{SHORTEST:g} s): give sounds in which there is something."
        )
    words, f_t = _label_table(encoder, heard, vectors)
    index = {word: i for i, word in enumerate(words)}

    def picture_rows(array: MemoryStore | DiskStore) -> tuple[tuple[int, ...], ...]:
        shared = {id(files): tuple(rows(array, file)[0] for file in files) for files in lists}
        return tuple(shared[id(clip.pictures)] for clip in heard)

    return Features(
        fbanks,
        tuple(rows(stores.sounds, clip.sound) for clip in heard),
        f_v,
        picture_rows(stores.pictures),
        torch.tensor([index[clip.label] for clip in heard]),
        words,
        f_t,
        tokens_v,
        () if stores.tokens is None else picture_rows(stores.tokens),
        _source(clips, stamps),
        left_out,
        None if frames is None else _own_frames(frames, [rows(stores.frames, clip.sound) for clip in heard]),
    )


def _own_frames(stored: Tensor | DiskStore, windows: list[range]) -> tuple[tuple[int, ...], ...]:
    """Every clip's windows' numbers of frames, which are stored in these rows."""
    counts = iter(stored[[row for rows in windows for row in rows]].int().flatten().tolist())
    return tuple(tuple(islice(counts, len(rows))) for rows in windows)


def left_out_note(clips: Sequence[Clip], total: int) -> str:
    """Says how many of so many clips were left out, and which is the first of them; "" for none."""
    if not clips:
        return ""
    return (
        f"{len(clips)} of {total} clips left out, which are silent, cancel out when their channels are mixed "
        f"or last less than {SHORTEST:g} s; the first is '{clips[0].sound}'."
    )


def _picture_lists(clips: list[Clip]) -> list[tuple[File, ...]]:
    """The clips' tuples of pictures, once where clips share one: a class's clips may all have thousands."""
    return list({id(clip.pictures): clip.pictures for clip in clips}.values())


def _source(clips: list[Clip], stamps: dict[File, str]) -> str:
    """Identifies clips by their labels and files, in their present versions and this order."""
    pictures = {id(files): digest([stamps[file] for file in files]) for files in _picture_lists(clips)}
    rows = ((clip.id, clip.label, stamps[clip.sound], pictures[id(clip.pictures)]) for clip in clips)
    return digest(*rows)


def _label_table(
    encoder: CAVMAEEncoder, clips: list[Clip], vectors: Mapping[str, Tensor] | None
) -> tuple[list[str], Tensor]:
    """The clips' labels in order and their vectors [L, D]."""
    vectors = vectors if vectors is not None else dict(zip(encoder.labels, encoder.label_vectors))
    words = sorted({clip.label for clip in clips})
    if not vectors:
        raise InputError(f"'{encoder.name}' knows no labels yet: give a text encoder for '{words[0]}'.")
    unknown = [word for word in words if word not in vectors]
    if unknown:
        raise InputError(
            f"The label '{unknown[0]}' has no text vector: name its folder as one of "
            f"{', '.join(sorted(vectors)[:12])}, or give a text encoder."
        )
    f_t = torch.stack([vectors[word].float().cpu() for word in words])
    if f_t.shape[1] != encoder.dim:
        raise InputError(
            f"The text encoder's vectors have {f_t.shape[1]} numbers, but '{encoder.name}' gives "
            f"{encoder.dim}: choose two that belong together."
        )
    return words, f_t


def _open_stores(
    encoder: CAVMAEEncoder, store: Path | None, keep_tokens: bool, distributed: Distributed
) -> _Stores:
    if store is None:
        tokens = MemoryStore() if keep_tokens else None
        frames = MemoryStore() if encoder.padding == "none" else None
        return _Stores(MemoryStore(), MemoryStore(), tokens, frames)
    c = encoder.model.config
    sound_settings = (c.rate, c.seconds, c.mel_bins, c.frames, c.fbank_mean, c.fbank_std, encoder.padding)
    # Older stores hold rows of sounds in which there is nothing to hear.
    fbank_digest = digest(*sound_settings, "audible")
    visual_digest = digest(astuple(c), *encoder.model.visual_parameters())
    sounds = DiskStore(store / f"sounds-{fbank_digest}", (c.frames, c.mel_bins), torch.float16)
    frames = None
    if encoder.padding == "none":
        frames = DiskStore(store / f"frames-{fbank_digest}", (1,), torch.float32)
    pictures = DiskStore(store / f"pictures-{visual_digest}", (c.dim,), torch.float32)
    shape = (c.image_tokens, c.dim)
    tokens = DiskStore(store / f"tokens-{visual_digest}", shape, torch.float16) if keep_tokens else None
    # All processes must know the same rows, or they would not share the same work.
    distributed.wait()
    return _Stores(sounds, pictures, tokens, frames)


def _jobs(clips: list[Clip], stamps: dict[File, str], stores: _Stores) -> list[_Job]:
    """What is not stored yet, each file once."""
    planned: set[File] = set()
    met: set[int] = set()
    jobs = []
    for clip in clips:
        sound = clip.sound not in planned and not stores.has_sound(stamps[clip.sound])
        numbers = []
        pictures = () if id(clip.pictures) in met else clip.pictures
        met.add(id(clip.pictures))
        for i, file in enumerate(pictures):
            if file not in planned and not stores.has_picture(stamps[file]):
                planned.add(file)
                numbers.append(i)
        planned.add(clip.sound)
        if sound or numbers:
            jobs.append(_Job(clip, sound, numbers))
    return jobs


def _prefetched(encoder: CAVMAEEncoder, jobs: list[_Job]) -> Iterator[list[_Loaded]]:
    """The jobs in chunks, their files read and resampled in threads, one chunk ahead of the towers."""

    def load(job: _Job) -> _Loaded:
        waveforms = _windows(encoder, job.clip) if job.sound else None
        images = [next(encoder.image_batches(job.clip.load_picture(i)[None])) for i in job.pictures]
        return _Loaded(job, waveforms, images)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        waiting = []
        for begin in range(0, len(jobs), CHUNK):
            waiting.append([threads.submit(load, job) for job in jobs[begin : begin + CHUNK]])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.pop(0)]
        for chunk in waiting:
            yield [future.result() for future in chunk]


def _windows(encoder: CAVMAEEncoder, clip: Clip) -> list[Tensor]:
    """The windows of a clip's sound as `fbanks` takes them; none where there is nothing to hear."""
    sound = clip.load_sound()
    try:
        audible_loudness(sound)
    except Inaudible:
        return []
    return encoder.windows(sound)


def _encode_chunk(
    encoder: CAVMAEEncoder, chunk: list[_Loaded], stamps: dict[File, str], stores: _Stores
) -> None:
    """Runs the frozen towers on a chunk and stores what they give."""
    c = encoder.model.config
    fbanks, frames, images = [], [], []
    for loaded in chunk:
        clip = loaded.job.clip
        if loaded.waveforms is not None:
            # No rows say that there is nothing to hear, to a later training too.
            nothing = torch.zeros(0, c.frames, c.mel_bins)
            windows = encoder.fbanks(loaded.waveforms) if loaded.waveforms else nothing
            fbanks.append((stamps[clip.sound], windows.half().cpu()))
            own = [encoder.own_frames(waveform) for waveform in loaded.waveforms]
            frames.append((stamps[clip.sound], torch.tensor(own, dtype=torch.float32)[:, None]))
        names = (stamps[clip.pictures[i]] for i in loaded.job.pictures)
        images += zip(names, loaded.images)
    features, tokens = [], []
    for part in torch.cat([image for _, image in images]).split(64) if images else ():
        tokens_v = encoder.model.visual_tokens(part)
        features.append(F.normalize(pool(encoder.model.see(tokens_v)), dim=-1).cpu())
        if stores.tokens is not None:
            tokens.append(tokens_v.half().cpu())
    for array, rows in ((stores.pictures, features), (stores.tokens, tokens)):
        if rows:
            array.add(list(zip((name for name, _ in images), torch.cat(rows).split(1))))
    if stores.frames is not None:
        stores.frames.add(frames)
    stores.sounds.add(fbanks)


@dataclass(frozen=True)
class Features:
    """N clips through the frozen towers.

    `fbanks` [W, frames, mel], normalised, float16: every window of every clip; `f_v` [P, D]: every picture;
    `windows` and `pictures`: each clip's rows in them; `labels` [N]: each clip's index in `words`, whose
    vectors are `f_t` [L, D]. For momentum "literal_shared", `tokens_v` [P, n, D], float16, are the pictures'
    tokens and `token_rows` each clip's rows in them. The arrays are tensors or `DiskStore`s: both are indexed
    by a list of row numbers. `source` identifies the clips' labels and files, in the versions that were read;
    `left_out` are the clips besides these N that cannot be heard. Where nothing is padded, `frames` are the
    frames of each clip's windows that are not the sound once more; None where all count.
    """

    fbanks: Tensor | DiskStore
    windows: tuple[Sequence[int], ...]
    f_v: Tensor | DiskStore
    pictures: tuple[Sequence[int], ...]
    labels: Tensor
    words: list[str]
    f_t: Tensor
    tokens_v: Tensor | DiskStore | None = None
    token_rows: tuple[Sequence[int], ...] = ()
    source: str = ""
    left_out: tuple[Clip, ...] = ()
    frames: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class _Stores:
    """Where filter banks, the pictures' features and, for "literal_shared", their tokens are kept; where
    nothing is padded, the windows' own frames."""

    sounds: MemoryStore | DiskStore
    pictures: MemoryStore | DiskStore
    tokens: MemoryStore | DiskStore | None
    frames: MemoryStore | DiskStore | None

    def has_sound(self, name: str) -> bool:
        return all(array is None or array.find(name) is not None for array in (self.sounds, self.frames))

    def has_picture(self, name: str) -> bool:
        return all(array is None or array.find(name) is not None for array in (self.pictures, self.tokens))


@dataclass(frozen=True)
class _Job:
    """A clip of which something is to be encoded: whether its sound, and the numbers of its pictures."""

    clip: Clip
    sound: bool
    pictures: list[int]


@dataclass(frozen=True)
class _Loaded:
    """A job's files as the towers take them."""

    job: _Job
    waveforms: list[Tensor] | None
    images: list[Tensor]
