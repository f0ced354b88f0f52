"""The parts of a build, each made once and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch


def kept(folder: Path, name: str, make: Callable[[], object]):
    """The result of `make`, from the folder where it is kept; what was stopped leaves nothing."""
    path = folder / f"{name}.pt"
    if not path.exists():
        torch.save(make(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return torch.load(path, weights_only=True)
