"""CLIP: its text tower alone, and the whole model, which embeds pictures too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, refused
from ..files import Unreadable, is_dir, read_json, variants_of
from ..image import middle_square
from .fingerprint import fingerprint

if TYPE_CHECKING:
    from PIL import Image

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_FILES = ("tokenizer/*", "text_encoder/config.json", "*.json", "*.txt")
"""What to download from a hub repository beside the weights: of Stable Diffusion's text tower, or a CLIP."""


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


class CLIP:
    """transformers' CLIPModel: f_a, in the space of its text tower's end states, times its text projection,
    against its image embeddings (method: how an encoder without a visual tower retrieves)."""

    def __init__(self, model: nn.Module, name: str = "CLIP", folder: Path | None = None):
        """`folder` holds the tokenizer and the picture processor, which only words and `scores` need."""
        self.model, self.name, self.folder = model.eval().requires_grad_(False), name, folder
        self.image_size = model.config.vision_config.image_size
        self.key = fingerprint(
            [model.text_projection.weight, model.visual_projection.weight, *model.vision_model.parameters()],
            "CLIP",
        )

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1], their middle squares, to [B, dim] of length one."""
        weight = self.model.visual_projection.weight
        images = middle_square(images, self.image_size)
        mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
        pooled = self.model.vision_model(((images.cpu() - mean) / std).to(weight)).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float().cpu(), dim=-1)

    @cached_property
    def tokenizer(self):
        """Raises InputError where the CLIP's folder has none."""
        from transformers import CLIPTokenizer

        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise InputError(
                f"The CLIP folder '{self.folder}' has no tokenizer: add vocab.json and merges.txt."
            )
        with refused(
            lambda reason: (
                f"The tokenizer of the CLIP folder '{self.folder}' cannot be read ({reason}): add it again."
            )
        ):
            tokenizer = CLIPTokenizer.from_pretrained(str(self.folder), local_files_only=True)
            # Settings of a wrong kind are loaded, and fail at the first word.
            tokenizer(["a"], padding=True, truncation=True)
            return tokenizer

    @cached_property
    def image_processor(self):
        """Pictures as this CLIP was trained on. Raises InputError where the CLIP's folder has none."""
        from transformers import CLIPImageProcessor

        with refused(
            lambda reason: (
                f"The CLIP folder '{self.folder}' has no picture processor ({reason}): add "
                "preprocessor_config.json."
            )
        ):
            return CLIPImageProcessor.from_pretrained(str(self.folder), local_files_only=True)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts to [B, dim] of length one."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        tokens = {key: tokens[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        state = self.model.text_model(**tokens).pooler_output
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

    @torch.no_grad()
    def scores(self, pictures: list[Image.Image], label: str) -> list[float]:
        """The cosine of each picture and the label, as it is written."""
        pixels = self.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        weight = self.model.visual_projection.weight
        pooled = self.model.vision_model(pixels.to(weight)).pooler_output
        features = F.normalize(self.model.visual_projection(pooled).float().cpu(), dim=-1)
        return (features @ self.embed_text([label])[0]).tolist()


def load_clip_text(source: str | os.PathLike) -> CLIPText:
    """The text tower of a diffusers Stable Diffusion folder (its `text_encoder` and `tokenizer`), of a CLIP's
    own folder, or of a hub name of either. Only safetensors are read.

    Raises InputError where there is no such folder or name, no network to fetch it, or no CLIP in it.
    """
    from transformers import CLIPTextModel

    with refused(
        lambda reason: (
            f"'{source}' gives no CLIP text encoder ({reason}): name a Stable Diffusion folder in "
            "diffusers' layout, or check the hub name and the network."
        )
    ):
        folder = _fetched(source)
        text = CLIPText(
            _tokenizer_of(folder),
            _load_whole(CLIPTextModel, _part_of(folder, "text_encoder")),
            folder.resolve().name if is_dir(source) else str(source),
        )
        # Settings of a wrong kind are loaded, and fail at the first word.
        text.embed(["a"])
        return text


def load_tokenizer(source: str | os.PathLike):
    """The tokenizer of a CLIP, or of a Stable Diffusion's folder, local or by a hub name. Raises InputError
    where there is none, or no network to fetch it."""
    with refused(
        lambda reason: (
            f"'{source}' gives no CLIP tokenizer ({reason}): name a CLIP's folder in transformers' layout, "
            "or check the hub name and the network."
        )
    ):
        return _tokenizer_of(_fetched(source))


def load_clip(folder: str | os.PathLike) -> CLIP:
    """A whole CLIP from a local folder in transformers' layout, safetensors only; nothing is downloaded.

    Raises InputError where there is none.
    """
    folder = Path(folder)
    kind = None
    with contextlib.suppress(Unreadable, AttributeError):
        kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise InputError(
            f"'{folder}' holds no CLIP model: give a folder in transformers' layout, with config.json and "
            "model.safetensors."
        )
    from transformers import CLIPModel

    with refused(
        lambda reason: (
            f"The CLIP model in '{folder}' cannot be loaded ({reason}): download it again, as safetensors."
        )
    ):
        clip = CLIP(_load_whole(CLIPModel, folder).float(), folder.name, folder)
        # Settings of a wrong kind are loaded, and fail at the first word or picture.
        clip.embed_images(torch.zeros(1, 3, clip.image_size, clip.image_size))
        clip.model.text_model(torch.zeros(1, 2, dtype=torch.long))
    return clip


@lru_cache(maxsize=1)
def fetch_clip(source: str, device: str = "cpu") -> CLIP:
    """A whole CLIP on a device, from a local folder or by a hub name, once in a process.

    Raises InputError where there is none, or no network to fetch it.
    """
    with refused(
        lambda reason: (
            f"'{source}' gives no CLIP ({reason}): name a CLIP's folder in transformers' layout, "
            "or check the hub name and the network."
        )
    ):
        clip = load_clip(_fetched(source))
    clip.model.to(device)
    return clip


def _fetched(source: str | os.PathLike) -> Path:
    if is_dir(source):
        return Path(source)
    from huggingface_hub import snapshot_download

    own, inner = (f".{variant}" if variant else "" for variant in variants_of(source, ".", "text_encoder"))
    weights = [f"model{own}.safetensors", f"text_encoder/model{inner}.safetensors"]
    # One download finds out at once that there is no network; the loaders would try for minutes.
    return Path(snapshot_download(str(source), allow_patterns=[*CLIP_FILES, *weights]))


def _part_of(folder: Path, name: str) -> Path:
    """The folder of a part: its own in a Stable Diffusion's folder, all of a CLIP's."""
    return folder / name if (folder / name).is_dir() else folder


def _tokenizer_of(folder: Path):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(_part_of(folder, "tokenizer")))


def _load_whole(kind, folder: Path) -> nn.Module:
    """A model of a local folder's safetensors. Raises ValueError where they lack some of its weights, which
    transformers would draw at random."""
    model, report = kind.from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        variant=variants_of(folder, ".")[0],
        output_loading_info=True,
    )
    missing = sorted(key for key in report["missing_keys"] if "position_ids" not in key)
    if missing:
        raise ValueError(f"it lacks weights: {missing[0]}, ...")
    return model
