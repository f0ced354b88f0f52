"""The text towers that sounds are aligned with: what makes a label or a caption a vector.

`TextTower` is all that alignment asks of one. `CLIPText` is a Stable Diffusion checkpoint's own; ComfyUI's
CLIP and SoundWorld's reader fit the same protocol.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..files import is_dir

TEMPLATES = {
    "label": ("{label}",),
    "sound": ("the sound of {label}",),
    "both": ("{label}", "the sound of {label}"),
}
"""How a label is said to the text tower: as it is (the paper), as zero-shot prompts say it, or both."""

CLIP_FILES = [
    *("tokenizer/*", "text_encoder/config.json", "text_encoder/model.safetensors"),
    *("*.json", "*.txt", "model.safetensors"),
]
"""What a hub name's text tower needs: of a Stable Diffusion, or of a CLIP by itself."""


class TextTower(Protocol):
    """Texts as vectors: a CLIP's hidden state at the end token, after the final LayerNorm, not projected.

    `name` tells two towers apart in messages and in an encoder's metadata; `dim` is the width of a vector.
    """

    name: str
    dim: int

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim], float32, without gradient; of any length (norm near 28 for CLIP ViT-L/14)."""


class CLIPText:
    """transformers' CLIPTextModel and its tokenizer as a TextTower; texts are cut at the model's length."""

    def __init__(self, tokenizer, model: nn.Module, name: str = "CLIP"):
        self.tokenizer, self.model, self.name = tokenizer, model.eval().requires_grad_(False), name
        self.dim = model.config.hidden_size

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim]."""
        if not texts:
            return torch.zeros(0, self.dim)
        device = self.model.get_input_embeddings().weight.device
        parts = []
        for begin in range(0, len(texts), 64):
            ids = self.tokenizer(
                texts[begin : begin + 64],
                padding=True,
                max_length=self.model.config.max_position_embeddings,
                truncation=True,
                return_tensors="pt",
            )["input_ids"]
            # Pooled is the end token after the final LayerNorm. Attention is causal, so the
            # padding behind the end token does not reach it.
            parts.append(self.model(ids.to(device)).pooler_output.float().cpu())
        return torch.cat(parts)


def load_clip(source: str | os.PathLike) -> CLIPText:
    """The text tower of a diffusers Stable Diffusion folder (its `text_encoder` and `tokenizer`), of a CLIP's
    own folder, or of a hub name of either. Only safetensors are read.

    Raises InputError where there is no such folder or name, no network to fetch it, or no CLIP in it.
    """
    from huggingface_hub import snapshot_download
    from transformers import CLIPTextModel, CLIPTokenizer

    name = str(source)
    try:
        # One download finds out at once that there is no network; the loaders would try for minutes.
        folder = Path(name) if is_dir(name) else Path(snapshot_download(name, allow_patterns=CLIP_FILES))
        inside = is_dir(folder / "text_encoder")
        return CLIPText(
            CLIPTokenizer.from_pretrained(str(folder / "tokenizer" if inside else folder)),
            CLIPTextModel.from_pretrained(
                str(folder / "text_encoder" if inside else folder), use_safetensors=True
            ),
            folder.resolve().name if is_dir(name) else name,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"“{name}” gives no CLIP text encoder ({reason}): name a Stable Diffusion folder in diffusers' "
            "layout, or check the hub name and the network."
        ) from error


def label_vectors(tower: TextTower, labels: list[str], template: str = "label") -> Tensor:
    """Labels as [L, dim] of length one: the mean direction over what TEMPLATES[template] makes of each.

    Raises InputError for an unknown template or an empty label.
    """
    if template not in TEMPLATES:
        raise InputError(f"There is no template “{template}”: choose one of {', '.join(TEMPLATES)}.")
    empty = [i for i, label in enumerate(labels) if not label.strip()]
    if empty:
        raise InputError(f"Label {empty[0] + 1} of {len(labels)} is empty: give every sound a word.")
    ways = [tower.embed([way.format(label=label) for label in labels]) for way in TEMPLATES[template]]
    return F.normalize(sum(F.normalize(way.float(), dim=-1) for way in ways), dim=-1)
