"""Clips as the frozen towers leave them: what training sees of sounds, pictures and labels, made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.clips import Clip, File
from ..encoders.cavmae import pool
from ..encoders.cavmae_encoder import CAVMAEEncoder
from ..encoders.fingerprint import digest
from ..errors import InputError
from .distributed import ALONE, Distributed
from .feature_store import DiskStore, MemoryStore, stamp

CHUNK = 8
"""Clips that are encoded together, and lost together where a process is killed."""


@dataclass(frozen=True)
class Features:
    """Clips as the frozen towers left them.

    `fbanks` [W, frames, mel], normalised, float16: every window of every clip; `f_v` [P, D]: every picture;
    `windows` and `pictures`: each clip's rows in them; `labels` [N]: each clip's number in `words`, whose
    vectors are `f_t` [L, D]. For momentum "literal_shared", `tokens_v` [P, n, D], float16, are the pictures
    and `token_rows` each clip's rows in them. The arrays are tensors, or `Rows` on the disk: both give the
    rows of a list of numbers.
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


@torch.no_grad()
def encode(
    encoder: CAVMAEEncoder,
    clips: list[Clip],
    vectors: Mapping[str, Tensor] | None = None,
    keep_tokens: bool = False,
    callback: Callable[[int, int], None] | None = None,
    store: Path | None = None,
    ranks: Distributed = ALONE,
    folder: Path | None = None,
) -> Features:
    """Sounds to filter banks, pictures to features, labels to text vectors: what training needs, once.

    `vectors` holds the text tower's vector [D] of every label; without it the encoder's own table serves.
    `keep_tokens` keeps what momentum "literal_shared" needs. `callback(clips done, clips)` may raise to stop.
    With a `store`, a folder that all `ranks` see, the work is shared among them and kept: what it holds of a
    file as it is now is not made again, and `folder`, where the data lies, may be a copy of the one it was
    made of. Raises InputError for a file that cannot be read, a label without a vector, and a disk that is
    full.
    """
    words, f_t = _label_table(encoder, clips, vectors)
    if store is None and ranks.count > 1:
        raise InputError("Several processes share their work through a store: name a folder for it.")
    sounds, pictures, tokens = _arrays(encoder, store, keep_tokens, ranks)
    marks = {file: stamp(file, folder) for clip in clips for file in (clip.sound, *clip.pictures)}
    jobs = _jobs(clips, marks, sounds, [array for array in (pictures, tokens) if array is not None])
    own = jobs[ranks.rank :: ranks.count]
    done = len(clips) - len(jobs)
    for chunk in _prepared(encoder, own):
        heard, seen, seen_tokens = [], [], []
        for (clip, _, numbers), waveforms, images in chunk:
            if waveforms is not None:
                heard.append((marks[clip.sound], encoder.fbanks(waveforms.to(encoder.device)).half().cpu()))
            seen += [(marks[clip.pictures[i]], image) for i, image in zip(numbers, images)]
        features = []
        for part in torch.cat([image for _, image in seen]).split(64) if seen else ():
            made = encoder.model.visual_tokens(part)
            features.append(F.normalize(pool(encoder.model.see(made)), dim=-1).cpu())
            if tokens is not None:
                seen_tokens.append(made.half().cpu())
        names = [mark for mark, _ in seen]
        for array, rows in ((pictures, features), (tokens, seen_tokens)):
            if rows:
                array.add(list(zip(names, torch.cat(rows).split(1))))
        sounds.add(heard)
        for _ in chunk:
            done += ranks.count
            if callback:
                callback(min(done, len(clips)), len(clips))
    ranks.wait()
    held = [None if array is None else array.reopen() for array in (sounds, pictures, tokens)]
    number = {word: i for i, word in enumerate(words)}

    def rows(array: MemoryStore | DiskStore, file: File) -> range:
        found = array.find(marks[file])
        if found is None:
            raise InputError(f"'{store}' does not hold '{file}': name a folder that all processes see.")
        return found

    def picture_rows(array: MemoryStore | DiskStore) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(rows(array, file)[0] for file in clip.pictures) for clip in clips)

    return Features(
        held[0],
        tuple(rows(sounds, clip.sound) for clip in clips),
        held[1],
        picture_rows(pictures),
        torch.tensor([number[clip.label] for clip in clips]),
        words,
        f_t,
        held[2],
        () if tokens is None else picture_rows(tokens),
    )


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


def _arrays(
    encoder: CAVMAEEncoder, store: Path | None, keep_tokens: bool, ranks: Distributed
) -> tuple[MemoryStore | DiskStore, MemoryStore | DiskStore, MemoryStore | DiskStore | None]:
    """Where filter banks, pictures' features and, if they are wanted, pictures' tokens are kept."""
    if store is None:
        return MemoryStore(), MemoryStore(), MemoryStore() if keep_tokens else None
    c = encoder.model.config
    listens = digest(c.rate, c.seconds, c.mel_bins, c.frames, c.fbank_mean, c.fbank_std)
    sees = digest(astuple(c), *encoder.model.visual_parameters())
    sounds = DiskStore(store / f"sounds-{listens}", (c.frames, c.mel_bins), torch.float16)
    pictures = DiskStore(store / f"pictures-{sees}", (c.dim,), torch.float32)
    shape = (c.image_tokens, c.dim)
    tokens = DiskStore(store / f"tokens-{sees}", shape, torch.float16) if keep_tokens else None
    # What one rank finds, all must find, or they would not share the same work.
    ranks.wait()
    return sounds, pictures, tokens


Job = tuple[Clip, bool, list[int]]
"""A clip of which something is to be encoded: whether its sound, and which of its pictures."""


def _jobs(
    clips: list[Clip],
    marks: dict[File, str],
    sounds: MemoryStore | DiskStore,
    pictures: MemoryStore | DiskStore,
) -> list[Job]:
    """What is not known yet, each file once."""
    planned: set[File] = set()
    jobs = []
    for clip in clips:
        hear = clip.sound not in planned and sounds.find(marks[clip.sound]) is None
        numbers = []
        for i, file in enumerate(clip.pictures):
            known = all(array.find(marks[file]) is not None for array in pictures)
            if file not in planned and not known:
                planned.add(file)
                numbers.append(i)
        planned.add(clip.sound)
        if hear or numbers:
            jobs.append((clip, hear, numbers))
    return jobs


def _prepared(
    encoder: CAVMAEEncoder, jobs: list[Job]
) -> Iterator[list[tuple[Job, Tensor | None, list[Tensor]]]]:
    """The jobs in chunks, their files read and resampled in threads, one chunk ahead of the towers."""

    def prepare(job: Job) -> tuple[Job, Tensor | None, list[Tensor]]:
        clip, hear, numbers = job
        waveforms = encoder.windows(clip.load_sound()) if hear else None
        return job, waveforms, [next(encoder.image_batches(clip.load_picture(i)[None])) for i in numbers]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        waiting = []
        for begin in range(0, len(jobs), CHUNK):
            waiting.append([threads.submit(prepare, job) for job in jobs[begin : begin + CHUNK]])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.pop(0)]
        for chunk in waiting:
            yield [future.result() for future in chunk]
