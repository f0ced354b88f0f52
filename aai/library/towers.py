"""Visual towers for a library's pictures: a sound encoder's own, or CLIP for encoders that have none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from torch import Tensor
from torch.nn import functional as F

from ..encoders.clip import load_clip
from ..encoders.fingerprint import fingerprint
from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders.base import SoundEncoder, VisualEncoder


class VisualTower(Protocol):
    """Embeds pictures, and brings a sound's embedding into their space.

    `key` identifies its weights; `image_size` is the side of its pictures in pixels.
    """

    name: str
    key: str
    image_size: int

    def embed_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] to [B, dim] of length one."""

    def query(self, f_a: Tensor) -> Tensor:
        """A sound's embedding [d] to [dim], of length one."""


class OwnTower:
    """The visual tower of the sound encoder itself: sounds and pictures share a space (eq. 1).

    Its key is made of the visual weights alone, so that training the audio branch further leaves a library
    as it is.
    """

    def __init__(self, encoder: VisualEncoder):
        self.encoder, self.name, self.image_size = encoder, encoder.name, encoder.image_size
        self.key = fingerprint(encoder.visual_parameters(), self.name)

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self.encoder.embed_images(images).detach().float().cpu(), dim=-1)

    def query(self, f_a: Tensor) -> Tensor:
        return F.normalize(f_a.detach().float().cpu(), dim=-1)


def tower_of(encoder: SoundEncoder, clip: str | os.PathLike | None = None, option: str = "") -> VisualTower:
    """The visual tower for a sound encoder's library: the CLIP in the folder `clip` where one is named, else
    the encoder's own.

    Raises InputError for an encoder that has none, and no CLIP to stand in; the sentence names the caller's
    `option` for one.
    """
    if clip:
        return load_clip(clip)
    if not encoder.sees:
        raise InputError(
            f"The sound encoder {encoder.name} cannot see pictures: name the folder of a CLIP model that can"
            + (f" ({option})." if option else ".")
        )
    return OwnTower(encoder)
