"""The parts of a build, each made once and kept in a folder, and the weights that are shipped of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...files import write_safetensors


def kept(folder: Path, name: str, make: Callable[[], object]):
    """The result of `make`, from the folder where it is kept; what was stopped leaves nothing."""
    path = folder / f"{name}.pt"
    if not path.exists():
        torch.save(make(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return torch.load(path, weights_only=True)


def write_weights(folder: Path, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a weight file of SoundWorld as float16 safetensors."""
    half = {key: value.half() for key, value in tensors.items()}
    write_safetensors(folder / f"{name}.safetensors", half, metadata, "SoundWorld's weights")
