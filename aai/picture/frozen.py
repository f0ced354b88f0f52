"""What a picture model of torch modules does, whatever its denoiser is and predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..prompt import Prompt
from .codec import codec_of
from .model import Vectors, fingerprint, vocabulary_statistics
from .text_encoder import TextEncoder
from .word_encoder import WordEncoder

Encoder = TextEncoder | WordEncoder

LARGE = 512
"""Pixels of a side above which a picture is encoded alone."""


class FrozenModel:
    """A denoiser, text encoders by their keys and an autoencoder, all frozen: the parts of a PictureModel
    that U-Nets and flow transformers share.

    `vae` is diffusers' AutoencoderKL or a module with `encode`, `decode` and `downscale`; pictures' sides
    are cut to multiples of `square` latents. `joint`: text and picture share their attention.
    """

    square, joint = 1, False

    def __init__(self, denoiser: nn.Module, encoders: Mapping[str, Encoder], vae: nn.Module):
        self.denoiser, self.vae = denoiser, vae
        self._fingerprint: str | None = None
        self.codec = codec_of(vae)
        self._text_encoders = dict(encoders)
        for module in (denoiser, vae, *(t.model for t in self._text_encoders.values())):
            module.requires_grad_(False).eval()
        self.text_encoders = {
            key: vocabulary_statistics(
                encoder.vocabulary, encoder.vocabulary.num_embeddings, encoder.vocabulary.weight.device
            )
            for key, encoder in self._text_encoders.items()
        }

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.denoiser.parameters()).dtype

    @property
    def latent_dtype(self) -> torch.dtype:
        """Of the latents that `encode_images` gives."""
        return self.dtype

    @property
    def fingerprint(self) -> str:
        """What tells its denoiser from another (`model.fingerprint`), in any dtype."""
        return self._fingerprint or fingerprint(self.denoiser)

    def known_by(self, first: Tensor) -> None:
        """Takes the denoiser's first weights as they were before a dtype rounded them."""
        self._fingerprint = fingerprint(self.denoiser, first)

    def to(self, *place: torch.device | torch.dtype | str):
        """Moves all modules to a device, and all but the autoencoder to a dtype."""
        if torch.bfloat16 in place:
            # It rounds more than float16 does, and the weights could not be told any more.
            self._fingerprint = self.fingerprint
        for module in (self.denoiser, *(t.model for t in self._text_encoders.values())):
            # diffusers' own `to` warns of a dtype at every call, and does the same.
            nn.Module.to(module, *place)
        # In float16 its numbers overflow: SDXL's pictures would be black.
        if devices := [p for p in place if not isinstance(p, torch.dtype)]:
            self.vae.to(*devices)
        return self

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Per text encoder [N, d]: CLIP's states at the end token after the final LayerNorm, the others' mean
        word embeddings."""
        return {
            key: torch.stack([encoder.embed(text).float().cpu() for text in texts])
            for key, encoder in self._text_encoders.items()
        }

    @property
    def widths(self) -> dict[str, int]:
        """The width of each text encoder's words."""
        return {key: info.dim for key, info in self.text_encoders.items()}

    @torch.no_grad()
    def embed_words(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Per text encoder, the mean of the texts' pieces' word embeddings [N, d]."""
        return {
            key: torch.stack([encoder.word(text).float().cpu() for text in texts])
            for key, encoder in self._text_encoders.items()
        }

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] to latents; sides are cut to multiples of the latent's pixels."""
        step = self.codec.downscale * self.square
        height, width = (side // step * step for side in images.shape[-2:])
        if not height or not width:
            raise InputError(
                f"A picture of {images.shape[-1]} x {images.shape[-2]} pixels is too small: take {step} "
                "or more."
            )
        weight = next(self.vae.parameters())
        # A few at a time: hundreds together would not fit, nor would a few large ones.
        parts = images[..., :height, :width].split(1 if max(height, width) > LARGE else 4)
        encoded = [self.codec.encode(part.to(weight) * 2 - 1) for part in parts]
        return torch.cat(encoded).to(self.device, self.latent_dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures [B, 3, H, W] float32 in [0, 1]."""
        weight = next(self.vae.parameters())
        # One at a time: of a large picture alone the decoder's layers take gigabytes.
        decoded = torch.cat([self.codec.decode(one.to(weight)).float() for one in latents.split(1)])
        return (decoded / 2 + 0.5).clamp(0, 1)

    def first_noise(self, seeds: Sequence[int], height: int, width: int, channels: int) -> Tensor:
        """Each seed's own unit noise [N, channels, height, width], on the CPU."""
        shape = (channels, height, width)
        return torch.stack(
            [torch.randn(1, *shape, generator=torch.Generator().manual_seed(s))[0] for s in seeds]
        )

    def _rows_of(
        self, prompt: Prompt, key: str, places: Mapping[str, Sequence[int]], instead: Vectors | None
    ) -> dict[str, Tensor]:
        """The vectors for one text encoder of each token that stands in its `places`, or those given
        `instead`. Raises InputError where they are not as wide as its words, or do not fill the places."""
        used = {}
        for token in prompt.used():
            if token.name not in places:
                continue
            rows = (instead or {}).get(token.name, token.vectors).get(key)
            self._check_width(token.name, key, rows, len(places[token.name]))
            used[token.name] = rows
        return used

    def _check_width(self, name: str, key: str, rows: Tensor | None, places: int) -> None:
        width = self.text_encoders[key].dim
        if rows is None or rows.shape[-1] != width:
            found = "none" if rows is None else rows.shape[-1]
            raise InputError(
                f"The sound token '{name}' is of width {found}, but this model's {key} reads {width}: "
                "train the token with this model, or load the model that it was trained with."
            )
        if places % len(rows):
            raise InputError(
                f"The sound token '{name}' fills {places} places, but {len(rows)} vectors were given for it."
            )


def repeated(values: Tensor, count: int) -> Tensor:
    """The rows over and over until there are `count`."""
    return values.repeat(count // len(values), *[1] * (values.ndim - 1))
