"""What sees a library's pictures: a sound encoder's own visual tower, or CLIP for encoders that have none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from torch import Tensor
from torch.nn import functional as F

from ..encoders.clip import load_clip
from ..encoders.fingerprint import fingerprint
from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders.base import SoundEncoder


class VisualTower(Protocol):
    """Sees pictures, and brings a sound's embedding to where they lie.

    `key` tells its weights from all others'; `image_size` is the side in pixels that it sees.
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

    def __init__(self, encoder: SoundEncoder):
        self.encoder, self.name = encoder, encoder.name
        model = encoder.model
        self.image_size = getattr(getattr(model, "config", None), "image_size", 224)
        seen = getattr(model, "visual_parameters", model.parameters)
        self.key = fingerprint(seen(), self.name)

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self.encoder.embed_images(images).detach().float().cpu(), dim=-1)

    def query(self, f_a: Tensor) -> Tensor:
        return F.normalize(f_a.detach().float().cpu(), dim=-1)


def tower_of(encoder: SoundEncoder, clip: str | os.PathLike | None = None) -> VisualTower:
    """What sees pictures for a sound encoder: the CLIP in the folder `clip` where one is named, else the
    encoder's own visual tower.

    Raises InputError for an encoder that has none, and no CLIP to stand in.
    """
    if clip:
        return load_clip(clip)
    if not hasattr(encoder, "embed_images"):
        raise InputError(
            f"The sound encoder {encoder.name} cannot see pictures: name the folder of a CLIP model that "
            "can (--clip, or the node's widget clip_model)."
        )
    return OwnTower(encoder)
