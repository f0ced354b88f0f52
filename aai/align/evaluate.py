"""How well sounds land: retrieval and nearest labels, ties counted against the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


def retrieval(queries: Tensor, gallery: Tensor) -> dict[str, float]:
    """Row i of `queries` [N, D] looks for row i of `gallery` [N, D]: R@1, R@5, R@10 (shares) and MedR.

    Whatever is not clearly below a query's own row stands before it: ties, and features that are no numbers.
    """
    scores = F.normalize(queries.double(), dim=-1) @ F.normalize(gallery.double(), dim=-1).T
    rank = (~(scores < scores.diag()[:, None] - TIE)).sum(1).clamp(min=1)
    found = {f"R@{k}": (rank <= k).float().mean().item() for k in (1, 5, 10)}
    return {**found, "MedR": torch.quantile(rank.float(), 0.5).item()}
