"""The nearest rows by FAISS are those of the plain product."""

import pytest
import torch
from torch.nn import functional as F

from aai.errors import InputError
from aai.library import nearest


def test_faiss_finds_what_the_plain_product_finds(tmp_path):
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install faiss-cpu")
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 24, generator=generator)
    rows = centres.repeat_interleave(100, 0) + 0.6 * torch.randn(4000, 24, generator=generator)
    features = F.normalize(rows, dim=-1)
    fast = nearest.build(features)
    fast.save(tmp_path / "made.faiss")
    fast = nearest.load(tmp_path / "made.faiss")
    for query in F.normalize(centres + 0.3, dim=-1):
        found = fast.candidates(query, 4)
        assert len(found) == 256 and (found[1:] > found[:-1]).all()
        best = set(top_rows(features @ query, 4))
        assert best <= set(found.tolist())
    (tmp_path / "bad.faiss").write_bytes(b"none")
    with pytest.raises(InputError, match="no whole search index"):
        nearest.load(tmp_path / "bad.faiss")


def top_rows(cosine, k):
    return nearest.top(cosine, k)[0].tolist()
