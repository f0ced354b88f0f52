"""How well sounds land: retrieval and nearest labels, ties counted against the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from ..audio import Sound
    from .encoder import SoundEncoder

# Equal features' cosines differ by how a matrix product rounds, in double precision by less than this.
TIE = 1e-12


@dataclass(frozen=True)
class Share:
    """`hits` of `count`, and Wilson's 95 % interval."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """`hits` / `count`; nothing of nothing is 0."""
        return self.hits / max(self.count, 1)

    @property
    def interval(self) -> tuple[float, float]:
        if not self.count:
            return 0.0, 1.0
        z, n, p = 1.959964, self.count, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half

    def __str__(self) -> str:
        low, high = self.interval
        between = f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
        return f"{100 * self.value:.1f} % ({self.hits} of {self.count}; {between})"


def nearest_label(embeddings: Tensor, label_vectors: Tensor, truth: Tensor) -> Share:
    """Top-1: [N, D] against label vectors [L, D]; truth [N] holds label numbers. A tie is a miss."""
    scores = F.normalize(embeddings.double(), dim=-1) @ F.normalize(label_vectors.double(), dim=-1).T
    own = scores.gather(1, truth[:, None])
    rivals = scores.scatter(1, truth[:, None], -math.inf).amax(1, keepdim=True)
    return Share(int((own > rivals + TIE).sum()), len(truth))


def retrieval(
    queries: Tensor,
    gallery: Tensor,
    query_labels: Tensor | None = None,
    gallery_labels: Tensor | None = None,
) -> dict[str, float]:
    """`queries` [N, D] look for their own among `gallery` [M, D]: R@1, R@5, R@10 (shares) and MedR.

    A query's own is the row of its number, or with labels [N] and [M] whichever row of its label lies
    nearest. Whatever is not clearly below it stands before it: ties, and features that are no numbers.
    """
    if query_labels is None:
        query_labels, gallery_labels = torch.arange(len(queries)), torch.arange(len(gallery))
    queries, gallery = (F.normalize(x.double(), dim=-1) for x in (queries, gallery))
    ranks = []
    # A part of the queries at a time: 14,000 against 14,000 would be 1.6 GB.
    for part, labels in zip(queries.split(1024), query_labels.split(1024)):
        scores = part @ gallery.T
        own = labels[:, None] == gallery_labels[None]
        best = scores.masked_fill(~own | scores.isnan(), -math.inf).amax(1, keepdim=True)
        ranks.append((~own & ~(scores < best - TIE)).sum(1) + 1)
    rank = torch.cat(ranks).float()
    found = {f"R@{k}": (rank <= k).float().mean().item() for k in (1, 5, 10)}
    return {**found, "MedR": torch.quantile(rank, 0.5).item()}


def per_class(labels: Tensor, count: int | None, seed: int = 0) -> Tensor:
    """The rows of at most `count` clips of every label [N], drawn by `seed`; None takes all.

    CAV-MAE's retrieval takes 5 clips of each of VGGSound's classes (the 1.4K of Table 1; 10 are its 2.8K).
    """
    if count is None:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    rows = [order[labels[order] == label][:count] for label in labels.unique()]
    return torch.cat(rows).sort().values


SUBSETS = {"5 a class": 5, "10 a class": 10, "all": None}


def retrieval_tables(
    f_a: Tensor, f_v: Tensor | None, f_t: Tensor | None, labels: Tensor, seed: int = 0
) -> list[dict]:
    """Table 1's protocol, both directions: sounds and pictures [N, D] of N clips, label vectors [L, D].

    A sound's picture is its own clip's; a sound's text is its label among all labels, and a label's sound
    whichever clip of it lies nearest. One dict for each of SUBSETS, as far as they differ: a subset that
    takes all clips is "all".
    """
    tables = []
    for name, count in SUBSETS.items():
        rows = per_class(labels, count, seed)
        whole = len(rows) == len(labels)
        sounds, numbers = f_a[rows], labels[rows]
        table = {
            "subset": "all" if whole else name,
            "clips": len(rows),
            "classes": len(numbers.unique()),
        }
        if f_v is not None:
            table["sound to picture"] = retrieval(sounds, f_v[rows])
            table["picture to sound"] = retrieval(f_v[rows], sounds)
        if f_t is not None:
            words = numbers.unique()
            table["sound to text"] = retrieval(sounds, f_t, numbers, torch.arange(len(f_t)))
            table["text to sound"] = retrieval(f_t[words], sounds, words, numbers)
        tables.append(table)
        if whole:
            break
    return tables


def hear_all(
    encoder: SoundEncoder,
    sounds: Iterable[Sound],
    callback: Callable[[int], None] | None = None,
    batch: int = 16,
) -> Tensor:
    """Sounds, read as they are needed, to [N, dim]; `callback(done)` may raise to stop."""
    sounds, parts, done = iter(sounds), [], 0
    while some := list(islice(sounds, batch)):
        parts.append(encoder.embed(some).float().cpu())
        done += len(some)
        if callback:
            callback(done)
    return torch.cat(parts)


def see_all(
    encoder: SoundEncoder, pictures: Iterable[Tensor], callback: Callable[[int], None] | None = None
) -> Tensor:
    """Pictures [3, H, W] in [0, 1], each of its own size, to [N, dim]."""
    parts = []
    for done, picture in enumerate(pictures, 1):
        parts.append(encoder.embed_images(picture[None]).float().cpu())
        if callback:
            callback(done)
    return torch.cat(parts)
