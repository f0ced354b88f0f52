"""Public CAV-MAE files: what parts they hold, and an encoder from one.

A file is a `.pth` of tensors alone, as upstream publishes it (a pickle, so nothing in it is executed), or the
same tensors as safetensors. Three layouts are published: pre-trained (towers and decoder, 647 tensors),
fine-tuned (towers and classifier), and fine-tuned on sound alone, which has no visual tower and is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .cavmae import CAVMAE, CLASSIFIER, DECODER, CAVMAEConfig, check, tower_weights
from .cavmae_encoder import CAVMAEEncoder
from .published import read_tensors

PARTS = {
    "audio": ("patch_embed_a.", "modality_a", "pos_embed_a", "blocks_a.", "norm_a."),
    "visual": ("patch_embed_v.", "modality_v", "pos_embed_v", "blocks_v.", "norm_v."),
    "unified": ("blocks_u.", "norm."),
    "decoder": DECODER,
    "classifier": CLASSIFIER,
}
TOWERS = ("audio", "visual", "unified")


@dataclass(frozen=True)
class Published:
    """A public file's tensors, without the prefix `module.`."""

    name: str
    tensors: dict[str, Tensor]

    @property
    def parts(self) -> dict[str, int]:
        """{part: number of tensors} of those PARTS that the file has."""
        counts = {part: sum(k.startswith(keys) for k in self.tensors) for part, keys in PARTS.items()}
        return {part: count for part, count in counts.items() if count}

    @property
    def layout(self) -> str:
        """ "pre-trained", "fine-tuned" or "towers"."""
        parts = self.parts
        return "pre-trained" if "decoder" in parts else "fine-tuned" if "classifier" in parts else "towers"

    def __str__(self) -> str:
        return f"{self.layout}: " + ", ".join(f"{part} ({count})" for part, count in self.parts.items())


def read(path: str | os.PathLike) -> Published:
    """The tensors of a public CAV-MAE file, `.pth` or safetensors; the tensors stay on the disk until used.

    Raises InputError for a missing file, one that cannot be read as tensors alone, and one that holds nothing
    of CAV-MAE.
    """
    path = Path(path)
    return of_tensors(read_tensors(path), path.name)


def of_tensors(tensors: dict[str, Tensor], name: str) -> Published:
    """As `read`, for tensors of the public file called `name`."""
    published = Published(name, tensors)
    if not {"audio", "visual"} & set(published.parts):
        first = f" ({next(iter(tensors))}, ...)" if tensors else ""
        raise InputError(
            f"'{name}' is a checkpoint of another family{first}: choose a CAV-MAE file such as "
            "audio_model.21.pth."
        )
    return published


def load_published(path: str | os.PathLike, config: CAVMAEConfig | None = None) -> CAVMAEEncoder:
    """An encoder of a public file's towers, not aligned yet: it knows no labels.

    Raises InputError where `read` does, where a whole tower is missing (the file of the audio branch alone),
    and where a weight is missing, unknown or of another size.
    """
    return encoder_of(read(path), config)


def encoder_of(published: Published, config: CAVMAEConfig | None = None) -> CAVMAEEncoder:
    """As `load_published`, for tensors already in memory."""
    absent = [part for part in TOWERS if part not in published.parts]
    if absent:
        raise InputError(
            f"'{published.name}' holds no {absent[0]} part ({published}): choose a file with both towers, "
            "such as audio_model.21.pth."
        )
    config = config or CAVMAEConfig()
    # Before 640 MB are filled with random numbers.
    with torch.device("meta"):
        check(CAVMAE(config), tower_weights(published.tensors), published.name)
    model = CAVMAE(config)
    model.load_published(published.tensors, published.name)
    name = f"CAV-MAE {Path(published.name).stem}"
    vectors = torch.zeros(0, model.config.dim)
    return CAVMAEEncoder(model.requires_grad_(False), [], vectors, name=name, padding="fbank")
