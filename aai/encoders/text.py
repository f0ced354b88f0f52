"""The text towers that sounds are aligned with: what makes a label or a caption a vector.

`TextTower` is all that alignment asks of one. `CLIPText` is a Stable Diffusion checkpoint's own; ComfyUI's
CLIP and SoundWorld's reader fit the same protocol.
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
"""How a label is said to the text tower: as it is (the paper), as zero-shot prompts say it, or both."""


class TextTower(Protocol):
    """Texts as vectors: a CLIP's hidden state at the end token, after the final LayerNorm, not projected.

    `name` tells two towers apart in messages and in an encoder's metadata; `dim` is the width of a vector.
    """

    name: str
    dim: int

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim], float32, without gradient; of any length (norm near 28 for CLIP ViT-L/14)."""


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
