"""Text towers that sounds are aligned with: labels and captions as vectors.

`TextTower` is the protocol that alignment needs. `clip.CLIPText` is that of a Stable Diffusion checkpoint;
ComfyUI's CLIP and SoundWorld's caption encoder implement it too.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError

TEMPLATES = {
    "label": ("{label}",),
    "sound": ("the sound of {label}",),
    "both": ("{label}", "the sound of {label}"),
}
"""Phrases for a label: the label itself (the paper), a zero-shot prompt, or both."""


class TextTower(Protocol):
    """Texts as vectors: a CLIP's hidden state at the end token, after the final LayerNorm, not projected.

    `name` identifies the tower in messages and in an encoder's metadata; `dim` is the width of a vector.
    """

    name: str
    dim: int

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim], float32, without gradient, not normalised (norm near 28 for CLIP ViT-L/14)."""


def label_vectors(tower: TextTower, labels: list[str], template: str = "label") -> Tensor:
    """Labels as [L, dim] of length one: the mean direction over what TEMPLATES[template] makes of each.

    Raises InputError for an unknown template or an empty label.
    """
    if template not in TEMPLATES:
        raise InputError(f"There is no template '{template}': choose one of {', '.join(TEMPLATES)}.")
    empty = [i for i, label in enumerate(labels) if not label.strip()]
    if empty:
        raise InputError(f"Label {empty[0] + 1} of {len(labels)} is empty: give every sound a word.")
    vectors = [
        tower.embed([phrase.format(label=label) for label in labels]) for phrase in TEMPLATES[template]
    ]
    return F.normalize(sum(F.normalize(each.float(), dim=-1) for each in vectors), dim=-1)
