"""A CLIP's text encoder as the text tower that sounds are aligned with."""

from __future__ import annotations

import torch
from torch import Tensor

from . import words


class ClipTower:
    """The first CLIP text encoder of a CLIP (clip_l; clip_h of Stable Diffusion 2) as a TextTower, whatever
    CLIP Set Last Layer says.

    `encoder` names another one. Raises InputError for text encoders that are not CLIP.
    """

    def __init__(self, clip, encoder: str | None = None):
        self.clip, self.encoder = clip, encoder or words.encoders(clip)[0]
        self.dim = words.word_embeddings(clip, self.encoder).embedding_dim
        self.name = f"{self.encoder} {self.dim}"

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim], float32, on the CPU."""
        if not texts:
            return torch.zeros(0, self.dim)
        with torch.inference_mode():
            self.clip.load_model()
            states = words.end_states(self.clip, self.encoder, texts)
        # A copy: outside inference mode it is an ordinary tensor, which training may use.
        return states.clone()
