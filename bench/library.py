"""References from large libraries: a plain product over 100,000 pictures, and FAISS over a million.

The features are drawn around 2,000 centres, as pictures of kinds of things lie, at CAV-MAE's and CLIP's
width; a query lies near one of the centres. The ratio of a search is against the plain product over the same
rows.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from aai.errors import InputError
from aai.library import nearest
from aai.library.retrieval import Library, references

SMALL, LARGE, DIM = 100_000, 1_000_000, 768
K, QUERIES = 4, 20


class Space:
    """A visual tower whose space sounds lie in already."""

    name, key, image_size = "space", "0", 224

    def query(self, f_a: Tensor) -> Tensor:
        return F.normalize(f_a, dim=-1)


def rows(measure) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2000, DIM, generator=generator)
    features = torch.empty(LARGE, DIM)
    for part in features.split(50_000):
        kinds = centres[torch.randint(len(centres), (len(part),), generator=generator)]
        part.copy_(F.normalize(kinds + torch.randn(part.shape, generator=generator), dim=-1))
    queries = centres[:QUERIES] + 0.5 * torch.randn(QUERIES, DIM, generator=generator)
    small = _library(features[:SMALL])
    large = _library(features)
    jobs = {"small": _search(small, queries), "plain": _search(large, queries)}
    found = []
    try:
        begin = time.perf_counter()
        fast = nearest.build(features)
        built = time.perf_counter() - begin
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "library.faiss"
            fast.save(path)
            size = path.stat().st_size / 2**20
        shortcut = Library(large.tower, large.folder, large.names, features, None, fast)
        jobs["fast"] = _search(shortcut, queries)
        same = [
            len({r.path for r in references(q, shortcut, K)} & {r.path for r in references(q, large, K)})
            for q in queries
        ]
        found += [
            {"what": "a million: FAISS's index is made in", "value": built, "unit": "s", "ratio": 1.0},
            {"what": "a million: FAISS's index on disk", "value": size, "unit": "MiB", "ratio": 1.0},
            {
                "what": f"a million: nearest {K} that FAISS finds too",
                "value": 100 * sum(same) / (K * QUERIES),
                "unit": "%",
                "ratio": 1.0,
            },
        ]
    except InputError as error:
        print(error)
    seconds = measure(jobs)
    each = {name: 1000 * value / QUERIES for name, value in seconds.items()}
    against = {"small": each["small"], "plain": each["plain"], "fast": each["plain"]}
    names = {
        "small": f"{SMALL:,} pictures, plain product: a search",
        "plain": f"{LARGE:,} pictures, plain product: a search",
        "fast": f"{LARGE:,} pictures, FAISS: a search",
    }
    return [
        *({"what": names[n], "value": each[n], "unit": "ms", "ratio": against[n] / each[n]} for n in each),
        *found,
    ]


def _library(features: Tensor) -> Library:
    return Library(Space(), Path("."), [f"{row}.jpg" for row in range(len(features))], features)


def _search(library: Library, queries: Tensor):
    return lambda: [references(query, library, K, "clip_7.wav") for query in queries]
