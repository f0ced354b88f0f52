"""What sees a library's pictures: a sound encoder's own visual tower, or CLIP for encoders that have none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..files import is_file

if TYPE_CHECKING:
    from ..align.encoder import SoundEncoder

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


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


class CLIPTower:
    """transformers' CLIPModel: f_a, in the space of its text tower's end states, times its text projection,
    against its image embeddings (method: how an encoder without a visual tower retrieves)."""

    def __init__(self, model: nn.Module, name: str = "CLIP"):
        self.model, self.name = model.eval().requires_grad_(False), name
        self.image_size = model.config.vision_config.image_size
        self.key = fingerprint(
            [model.text_projection.weight, model.visual_projection.weight, *model.vision_model.parameters()],
            "CLIP",
        )

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        weight = self.model.visual_projection.weight
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images.float(), size, mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
        seen = self.model.vision_model(((images.cpu() - mean) / std).to(weight)).pooler_output
        return F.normalize(self.model.visual_projection(seen).float().cpu(), dim=-1)

    @torch.no_grad()
    def embed_text(self, tokenizer: Callable, texts: Sequence[str]) -> Tensor:
        """Texts to [B, dim] of length one."""
        read = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        read = {key: read[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        state = self.model.text_model(**read).pooler_output
        return F.normalize(self.model.text_projection(state).float().cpu(), dim=-1)

    @torch.no_grad()
    def query(self, f_a: Tensor) -> Tensor:
        """Raises InputError for an f_a of another width than this CLIP's text tower."""
        width = self.model.text_projection.in_features
        if f_a.shape[-1] != width:
            raise InputError(
                f"The sound embedding has {f_a.shape[-1]} numbers, the text tower of {self.name} {width}: "
                "give the CLIP whose text encoder the sounds were aligned with (ViT-L/14 for Stable "
                "Diffusion 1)."
            )
        return F.normalize(
            self.model.text_projection(f_a.to(self.model.text_projection.weight)).float().cpu(), dim=-1
        )


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


def load_clip(folder: str | os.PathLike) -> CLIPTower:
    """A CLIPModel from a local folder in transformers' layout, safetensors only; nothing is downloaded.

    Raises InputError where there is none.
    """
    folder = Path(folder)
    config = folder / "config.json"
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type") if is_file(config) else None
    except (OSError, ValueError):
        kind = None
    if kind != "clip":
        raise InputError(
            f"'{folder}' holds no CLIP model: give a folder in transformers' layout, with config.json and "
            "model.safetensors."
        )
    from transformers import CLIPModel

    try:
        model = CLIPModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"The CLIP model in '{folder}' cannot be loaded ({reason}): download it again, as safetensors."
        ) from error
    return CLIPTower(model.float(), folder.name)


def fingerprint(weights: Iterable[Tensor], name: str) -> str:
    """16 letters and digits that other weights would not give: of every weight its shape and 64 numbers
    spread over it (training moves nearly all of them)."""
    digest = hashlib.sha256(name.encode())
    for weight in weights:
        flat = weight.detach().flatten()
        places = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), 64)).long()
        digest.update(str(tuple(weight.shape)).encode())
        digest.update(flat[places.to(flat.device)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
