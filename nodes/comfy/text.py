"""A CLIP's text encoder as the text tower that sounds are aligned with."""

from __future__ import annotations

import torch
from torch import Tensor

from . import words


class ClipTower:
    """The first CLIP text encoder of a CLIP (clip_l; clip_h of Stable Diffusion 2) as a TextTower: the end
    token's state after the final LayerNorm, not projected, whatever CLIP Set Last Layer says.

    `encoder` names another one. Raises InputError for text encoders that are not CLIP.
    """

    def __init__(self, clip, encoder: str | None = None):
        self.clip, self.encoder = clip, encoder or words.encoders(clip)[0]
        self.dim = words.word_embeddings(clip, self.encoder).shape[1]
        self.name = f"{self.encoder} {self.dim}"

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim], float32, on the CPU."""
        rows = [torch.zeros(0, self.dim)]
        with torch.inference_mode():
            self.clip.load_model()
            model = getattr(self.clip.cond_stage_model, self.encoder)
            model.reset_clip_options()
            model.set_clip_options(
                {"projected_pooled": False, "execution_device": self.clip.patcher.load_device}
            )
            try:
                for begin in range(0, len(texts), 16):
                    rows.append(model(self._ids(texts[begin : begin + 16]))[1].float().cpu())
            finally:
                model.reset_clip_options()
            embedded = torch.cat(rows)
        # A copy: outside inference mode it is an ordinary tensor, which training may use.
        return embedded.clone()

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids, 77 for each text; a longer one is cut."""
        key = self.encoder.removeprefix("clip_")
        return [[pair[0] for pair in self.clip.tokenize(text)[key][0]] for text in texts]
