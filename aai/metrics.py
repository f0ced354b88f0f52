"""Metrics and their intervals: accuracy, retrieval, AUROC, calibration, Student's t. Ties count against the
model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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


def auroc(inside: Tensor, outside: Tensor) -> float:
    """How often a score of `inside` [N] is above one of `outside` [M]; ties count half."""
    difference = inside.double()[:, None] - outside.double()[None]
    return float((difference > 0).double().mean() + 0.5 * (difference == 0).double().mean())


def auroc_interval(inside: Tensor, outside: Tensor, samples: int = 1000) -> tuple[float, float]:
    """The 95 % interval of `auroc` over resampled scores (bootstrap, the same ones each time)."""
    generator = torch.Generator().manual_seed(0)

    def again(scores: Tensor) -> Tensor:
        return scores[torch.randint(len(scores), (len(scores),), generator=generator)]

    values = torch.tensor([auroc(again(inside), again(outside)) for _ in range(samples)])
    low, high = values.quantile(torch.tensor((0.025, 0.975))).tolist()
    return low, high


def calibration_error(confidence: Tensor, right: Tensor, bins: int = 10) -> float:
    """Expected calibration error of confidences [N] in [0, 1] whose answers were right [N] or not: how far
    confidence and accuracy are apart, averaged over equal bins of confidence (Guo et al., ICML 2017)."""
    number = (confidence * bins).long().clamp(max=bins - 1)
    gap = 0.0
    for index in number.unique():
        rows = number == index
        gap += float(rows.double().mean()) * abs(
            float(confidence[rows].double().mean()) - float(right[rows].double().mean())
        )
    return gap


def retrieval(
    queries: Tensor,
    gallery: Tensor,
    query_labels: Tensor | None = None,
    gallery_labels: Tensor | None = None,
) -> dict[str, float]:
    """R@1, R@5, R@10 (shares) and the median rank of `queries` [N, D] in `gallery` [M, D].

    A query's target is the row of the same number, or with labels [N] and [M] the nearest row of its label.
    Rows that are not clearly below it rank before it: ties, and features that are not finite.
    """
    if query_labels is None:
        query_labels, gallery_labels = torch.arange(len(queries)), torch.arange(len(gallery))
    queries, gallery = (F.normalize(x.double(), dim=-1) for x in (queries, gallery))
    parts = []
    # A part of the queries at a time: 14,000 against 14,000 would be 1.6 GB.
    for part, labels in zip(queries.split(1024), query_labels.split(1024)):
        scores = part @ gallery.T
        own = labels[:, None] == gallery_labels[None]
        best = scores.masked_fill(~own | scores.isnan(), -math.inf).amax(1, keepdim=True)
        parts.append((~own & ~(scores < best - TIE)).sum(1) + 1)
    rank = torch.cat(parts).float()
    recall = {f"R@{k}": (rank <= k).float().mean().item() for k in (1, 5, 10)}
    return {**recall, "MedR": torch.quantile(rank, 0.5).item()}


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of independent values; of one value, itself."""
    if len(values) < 2:
        return float(values[0]), float(values[0])
    from scipy.stats import t

    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def interval_of_shares(shares: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of shares, within 0 and 1: Student's, or Wilson's where all are 0 or all
    are 1, since Student's then has no width."""
    if set(shares) in ({0.0}, {1.0}):
        return Share(round(sum(shares)), len(shares)).interval
    low, high = student(shares)
    return max(low, 0.0), min(high, 1.0)
