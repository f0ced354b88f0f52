"""Nearest rows: a plain product, and beyond some hundred thousand rows FAISS, an optional extra."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import files
from ..errors import InputError

if TYPE_CHECKING:
    import faiss

INSTALL = "pip install faiss-cpu"
LISTS_PROBED = 32
"""How many of the inverted lists a search looks into."""
CANDIDATES = 256
"""How many rows FAISS names, at least; their cosines are then computed as the plain product does."""


def top(cosine: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of [N], best first, equal ones in their own order: (rows, values)."""
    k = min(k, len(cosine))
    if not k:
        return torch.zeros(0, dtype=torch.long), cosine[:0]
    # topk's order among equals is anyone's, and a stable sort of all is ten times as slow.
    rows = (cosine >= cosine.topk(k).values[-1]).nonzero()[:, 0]
    values, order = cosine[rows].sort(descending=True, stable=True)
    return rows[order][:k], values[:k]


class Inverted:
    """A FAISS index of rows [N, dim] of length one: an inverted file of 8-bit codes."""

    def __init__(self, index: faiss.Index):
        self.index = index

    def candidates(self, query: Tensor, count: int) -> Tensor:
        """At least CANDIDATES row numbers that lie near a query [dim] of length one, in their own order."""
        import faiss

        wanted = min(max(count, CANDIDATES), self.index.ntotal)
        settings = faiss.SearchParametersIVF(nprobe=LISTS_PROBED)
        _, rows = self.index.search(query[None].float().numpy(), wanted, params=settings)
        candidates = torch.from_numpy(rows[0])
        return candidates[candidates >= 0].sort().values

    def save(self, path: Path) -> None:
        import faiss

        # By an open file: FAISS takes no name that is not UTF-8.
        with files.writing(path, "The search index") as part, part.open("wb") as file:
            faiss.write_index(self.index, faiss.PyCallbackIOWriter(file.write))


def build(features: Tensor, seed: int = 0) -> Inverted:
    """Raises InputError, with the install command, where FAISS is missing."""
    faiss = _faiss()
    count, dim = features.shape
    # The root of the count balances finding the lists and reading them; FAISS trains each on 39 rows or more.
    lists = max(1, min(int(math.sqrt(count)), count // 39))
    index = faiss.index_factory(dim, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    taken = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: 64 * lists]
    index.train(features[taken.sort().values].numpy())
    for part in features.split(65536):
        index.add(part.numpy())
    return Inverted(index)


def load(path: str | os.PathLike) -> Inverted:
    """Reads an index that `save` wrote. Raises InputError where FAISS is missing or the file is damaged."""
    faiss = _faiss()
    try:
        with open(path, "rb") as file:
            return Inverted(faiss.read_index(faiss.PyCallbackIOReader(file.read)))
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"'{path}' is no whole search index: delete it and index the library again."
        ) from error


def available() -> None:
    """Raises InputError, with the install command, where FAISS is missing."""
    _faiss()


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"A fast search of a large library needs FAISS: {INSTALL}") from error
    return faiss
