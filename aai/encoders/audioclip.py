"""AudioCLIP (Guzhov et al., ICASSP 2022): CLIP RN50 and a sound tower, trained together; in Tables 1 to 3.

Takes the keys of AudioCLIP-Full-Training.pt (and -Partial-Training.pt, whose CLIP is OpenAI's own), which
AndreyGuzhov/AudioCLIP publishes under the MIT licence: CLIP's towers as openai/CLIP names them, `audio.*`.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..image import middle_square
from .clip import CLIP, CLIP_MEAN, CLIP_STD, load_tokenizer
from .clip_resnet import LENGTH, VOCABULARY, CLIPResNet
from .clip_space import CLIPSpaceEncoder
from .esresnext import RATE, SAMPLES, ESResNeXt


class AudioCLIPTower(CLIPResNet):
    """Sounds, pictures and texts to [B, 1024]."""

    def __init__(self):
        super().__init__()
        self.audio = ESResNeXt()

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.audio(waveforms)


class AudioCLIPEncoder(CLIPSpaceEncoder):
    """AudioCLIP as a VisualEncoder of its own joint space. Its file holds what reads texts, but no tokenizer:
    any of OpenAI's CLIPs has it."""

    family = "audioclip"
    title = "AudioCLIP"
    sees = True
    rate, seconds, dim = RATE, SAMPLES / RATE, 1024
    image_size = 224
    space, patch = "audioclip", None
    whose = "AudioCLIP (AudioCLIP-Full-Training.pt of github.com/AndreyGuzhov/AudioCLIP)"
    licence = "MIT"

    @classmethod
    def build(cls) -> AudioCLIPTower:
        return AudioCLIPTower()

    def visual_parameters(self) -> list[nn.Parameter]:
        return list(self.tower.visual.parameters())

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1], resized (bicubic) and cut from the middle, to [B, dim] of length
        one. Raises InputError for pictures of another shape."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"Pictures of shape {tuple(images.shape)} cannot be seen: pass [B, 3, H, W].")
        mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
        parts = (middle_square(images.cpu(), self.image_size) - mean) / std
        seen = [self.tower.visual(part.to(self.device)).float().cpu() for part in parts.split(16)]
        return F.normalize(torch.cat(seen), dim=-1)

    def text_tower(self, source: str | os.PathLike) -> AudioCLIPText:
        """What reads labels into this space: AudioCLIP's own tower, with the tokenizer of an OpenAI CLIP, in
        a folder or of a hub name. Raises InputError where there is none, or it is another."""
        return AudioCLIPText(self, load_tokenizer(source), str(source))

    def clip(self, source: str | os.PathLike) -> CLIP:
        raise InputError("AudioCLIP sees pictures itself: leave the CLIP out.")


class AudioCLIPText:
    """AudioCLIP's texts as a TextTower of its joint space."""

    def __init__(self, encoder: AudioCLIPEncoder, tokenizer, source: str):
        if len(tokenizer) != VOCABULARY:
            raise InputError(
                f"The tokenizer of '{source}' has {len(tokenizer)} tokens, AudioCLIP's {VOCABULARY}: give "
                "the folder of one of OpenAI's CLIPs, or of a Stable Diffusion 1."
            )
        self.encoder, self.tokenizer = encoder, tokenizer
        self.name, self.dim = encoder.name, encoder.dim

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim] of length one."""
        rows = [torch.zeros(0, self.dim)]
        for begin in range(0, len(texts), 64):
            part = texts[begin : begin + 64]
            ids = self.tokenizer(part, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
            read = self.encoder.tower.read(ids["input_ids"].to(self.encoder.device))
            rows.append(F.normalize(read.float().cpu(), dim=-1))
        return torch.cat(rows)
