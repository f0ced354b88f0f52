"""Fingerprints of weights and settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def fingerprint(weights: Iterable[Tensor], name: str, dtype: torch.dtype = torch.float32) -> str:
    """16 hex digits that identify weights: a hash of every weight's shape and of 64 numbers spread over it
    (training moves nearly all of them). In float16 they are the same for a file in half precision and in
    full."""
    digest = hashlib.sha256(name.encode())
    for weight in weights:
        flat = weight.detach().flatten()
        places = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), 64)).long()
        digest.update(str(tuple(weight.shape)).encode())
        digest.update(flat[places.to(flat.device)].to(dtype).float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def digest(*parts: object) -> str:
    """16 hex digits that identify settings and whole tensors."""
    sha = hashlib.sha256()
    for part in parts:
        tensor = isinstance(part, Tensor)
        sha.update(part.detach().cpu().contiguous().numpy().tobytes() if tensor else repr(part).encode())
    return sha.hexdigest()[:16]


def encoder_fingerprint(family: str, weights: Mapping[str, Tensor]) -> str:
    """16 hex digits that identify a sound encoder by its own weights, in half precision and in full."""
    return fingerprint((weights[key] for key in sorted(weights)), family, torch.float16)
