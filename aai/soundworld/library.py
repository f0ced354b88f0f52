"""SoundWorld's picture library, and the pictures in it that a sound is like."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@lru_cache(maxsize=1)
def library_pictures(count: int = 600, seed: int = 77) -> Tensor:
    """SoundWorld's picture library: `count` rendered pictures, uint8 [N, 3, 128, 128], that no model was
    trained on."""
    from .pictures import draw_all, random_scenes

    return draw_all(random_scenes(count, seed, calm=0.05), workers=1)


def references(f_a: Tensor, encoder, k: int = 4) -> tuple[Tensor, list[float]]:
    """The k library pictures nearest to a sound's embedding [dim]: pictures [k, 3, 128, 128] and cosines
    [k]."""
    from ..library.retrieval import rank

    rows, scores = rank(f_a, library_features(encoder), k)
    return library_pictures()[rows].float() / 255, scores


def library_features(encoder) -> Tensor:
    """The library's embeddings [N, dim] by an encoder, computed once for each encoder object.

    Raises InputError for an encoder that cannot see pictures.
    """
    if not encoder.sees:
        raise InputError(
            f"The sound encoder {encoder.name} cannot see SoundWorld's pictures: give a folder of your own "
            "and a CLIP model that sees it."
        )
    return _features(encoder)


@lru_cache(maxsize=1)
def _features(encoder) -> Tensor:
    return encoder.embed_images(library_pictures().float() / 255)
