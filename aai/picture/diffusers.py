"""PictureModel over diffusers' parts: any Stable Diffusion 1, 2 or XL folder, or parts built by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embedding import WIDTHS
from ..errors import InputError, first_line, is_out_of_memory
from ..files import variants_of
from ..prompt import Prompt
from . import schedule
from .attention import injecting
from .checkpointing import checkpointing
from .control import Control
from .model import Conditioning, Vectors, fingerprint, vocabulary_statistics
from .text_encoder import TextEncoder


def load(path_or_id: str | Path, dtype: torch.dtype = torch.float32) -> DiffusersPictureModel:
    """A diffusers Stable Diffusion folder (or model id) as a picture model; its autoencoder is in float32.

    Raises InputError where there is none, or it is of another family.
    """
    from diffusers import DiffusionPipeline

    variants = {*variants_of(path_or_id, "unet", "vae", "text_encoder")} - {None}
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            str(path_or_id),
            dtype={"default": dtype, "vae": torch.float32},
            safety_checker=None,
            variant=min(variants, default=None),
        )
    # What a damaged folder makes diffusers and its readers raise depends on the damage.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"'{path_or_id}' cannot be loaded as a diffusers model ({first_line(error)}): name a folder with "
            "a model_index.json."
        ) from error
    parts = pipeline.components
    if not {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} <= set(parts):
        raise InputError(
            f"'{path_or_id}' is no Stable Diffusion 1, 2 or XL model but a {type(pipeline).__name__}: "
            "load one of these."
        )
    for name in ("tokenizer", "tokenizer_2"):
        length = getattr(parts.get(name), "model_max_length", 0)
        if isinstance(length, bool) or not isinstance(length, (int, float)):
            raise InputError(
                f"The {name} of '{path_or_id}' has '{length}' as its model_max_length: download it again."
            )
    return DiffusersPictureModel(
        unet=parts["unet"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        vae=parts["vae"],
        scheduler_config=parts["scheduler"].config,
        text_encoder_2=parts.get("text_encoder_2"),
        tokenizer_2=parts.get("tokenizer_2"),
    )


BLANK = (0.8223, -0.6876, 0.6364, 0.1380)
"""A grey picture's latent in Stable Diffusion 1's autoencoder, which ComfyUI shows every inpainting model."""


@dataclass(frozen=True)
class Codec:
    """Pictures [B, 3, H, W] in [-1, 1] to latents as the U-Net knows them, and back; `downscale` pixels
    a latent."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    downscale: int


def codec_of(vae: nn.Module) -> Codec:
    """The codec of diffusers' AutoencoderKL (the mean latent, scaled), or of a module with `encode`,
    `decode` and `downscale` whose latents are scaled already."""
    config = getattr(vae, "config", None)
    scaling = getattr(config, "scaling_factor", None)
    if scaling is None:
        return Codec(vae.encode, vae.decode, getattr(vae, "downscale", 8))
    shift = getattr(config, "shift_factor", None) or 0.0
    return Codec(
        encode=lambda x: (vae.encode(x).latent_dist.mode() - shift) * scaling,
        decode=lambda z: vae.decode(z / scaling + shift).sample,
        downscale=2 ** (len(config.block_out_channels) - 1),
    )


class DiffusersPictureModel:
    """Stable Diffusion 1, 2 or XL from diffusers' and transformers' modules, which it freezes.

    `scheduler_config` gives the noise schedule (betas, prediction_type) in diffusers' words; `vae` is an
    AutoencoderKL or a module with `encode`, `decode` and `downscale`; the second text encoder is SDXL's;
    `family` is what it is called, where its text encoders do not tell.
    """

    def __init__(
        self,
        unet: nn.Module,
        text_encoder: nn.Module,
        tokenizer,
        vae: nn.Module,
        scheduler_config: Mapping[str, object],
        text_encoder_2: nn.Module | None = None,
        tokenizer_2=None,
        family: str = "",
    ):
        self.unet, self.vae, self.family = unet, vae, family
        self.codec = codec_of(vae)
        self.v_prediction = schedule.is_v_prediction(scheduler_config)
        self.alphas_cumprod = schedule.alphas_cumprod(scheduler_config)
        first = WIDTHS.get(text_encoder.config.hidden_size, "clip_l")
        self._text_encoders = {first: TextEncoder(tokenizer, text_encoder)}
        if text_encoder_2 is not None:
            self._text_encoders["clip_g"] = TextEncoder(tokenizer_2, text_encoder_2)
        for module in (unet, vae, *(t.model for t in self._text_encoders.values())):
            module.requires_grad_(False).eval()
        latent, channels = unet.config.out_channels, unet.config.in_channels
        self.inpainting = channels == 2 * latent + 1
        if channels != latent and not (self.inpainting and latent == len(BLANK)):
            raise InputError(
                f"This U-Net reads {channels} channels for latents of {latent}: load a model that draws from "
                "words alone, or an inpainting model."
            )
        self.text_encoders = {
            key: vocabulary_statistics(
                encoder.vocabulary, encoder.vocabulary.num_embeddings, encoder.vocabulary.weight.device
            )
            for key, encoder in self._text_encoders.items()
        }

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def native_size(self) -> int:
        """The side in pixels of the pictures that it was trained on."""
        return self.unet.config.sample_size * self.codec.downscale

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.unet)

    @property
    def sigmas(self) -> Tensor:
        """Noise over signal at each timestep [T], ascending."""
        return schedule.sigmas_of(self.alphas_cumprod)

    def to(self, *place: torch.device | torch.dtype | str) -> DiffusersPictureModel:
        """Moves all modules to a device, and all but the autoencoder to a dtype."""
        for module in (self.unet, *(t.model for t in self._text_encoders.values())):
            # diffusers' own `to` warns of a dtype at every call, and does the same.
            nn.Module.to(module, *place)
        # In float16 its numbers overflow: SDXL's pictures would be black.
        if devices := [p for p in place if not isinstance(p, torch.dtype)]:
            self.vae.to(*devices)
        return self

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Per text encoder, the texts' states at the end token after the final LayerNorm [N, d]."""
        return {
            key: torch.stack([encoder.end_state(text).float().cpu() for text in texts])
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

    def checkpointing(self) -> contextlib.AbstractContextManager:
        """Inside, the U-Net's blocks keep their inputs only for the backward pass."""
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.transformers.transformer_2d import Transformer2DModel

        blocks = [m for m in self.unet.modules() if isinstance(m, (ResnetBlock2D, Transformer2DModel))]
        return checkpointing(blocks)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] to latents; sides are cut to multiples of the latent's pixels."""
        step = self.codec.downscale
        height, width = (side // step * step for side in images.shape[-2:])
        if not height or not width:
            raise InputError(
                f"A picture of {images.shape[-1]} x {images.shape[-2]} pixels is too small: take {step} "
                "or more."
            )
        weight = next(self.vae.parameters())
        # A few at a time: hundreds together would not fit.
        encoded = [self.codec.encode(few.to(weight) * 2 - 1) for few in images[..., :height, :width].split(4)]
        return torch.cat(encoded).to(self.device, self.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures [B, 3, H, W] float32 in [0, 1]."""
        weight = next(self.vae.parameters())
        # One at a time: of a large picture alone the decoder's layers take gigabytes.
        decoded = torch.cat([self.codec.decode(one.to(weight)).float() for one in latents.split(1)])
        return (decoded / 2 + 0.5).clamp(0, 1)

    def encode_prompt(self, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
        """The prompt's conditioning, differentiable in `vectors` {token name: {encoder: [n, d]}}.

        Stable Diffusion 1 and 2 read the last hidden state after the final LayerNorm; SDXL the last but one
        of both text encoders side by side, and the second one's pooled text embedding.
        """
        instead = vectors or {}
        states, pooled, token_ids = [], None, ()
        for key, encoder in self._text_encoders.items():
            layout = prompt.layout(
                encoder.tokenize, key, encoder.length, getattr(encoder.tokenizer, "pad_token_id", None)
            )
            used = {t.name: instead.get(t.name, t.vectors).get(key) for t in prompt.used()}
            for name, rows in used.items():
                self._check_width(name, key, rows, len(layout.positions[name]))
            output = encoder.run(layout, used)
            token_ids = token_ids or (layout.token_ids,)
            if len(self._text_encoders) == 1:
                return Conditioning(output.last_hidden_state, None, token_ids)
            states.append(output.hidden_states[-2])
            pooled = output[0]
        return Conditioning(torch.cat(states, dim=-1), pooled, token_ids)

    def predict_noise(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The noise in noisy latents [B, C, h, w] at timesteps t [B] (0..999)."""
        latents, t = latents.to(self.device, self.dtype), t.to(self.device)
        predicted = self._predict(latents, t, cond)
        if not self.v_prediction:
            return predicted
        signal, noise = self._amounts(t, latents)
        return signal * predicted + noise * latents

    def denoising_loss(self, latents: Tensor, cond: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error, in float32, in the noise or in v at timesteps t [B]."""
        latents, t = latents.to(self.device, self.dtype), t.to(self.device)
        noise = noise.to(latents)
        a, b = self._amounts(t, latents)
        predicted = self._predict(a * latents + b * noise, t, cond)
        target = a * noise - b * latents if self.v_prediction else noise
        return F.mse_loss(predicted.float(), target.float())

    @torch.no_grad()
    def sample(
        self,
        cond: Conditioning,
        uncond: Conditioning,
        *,
        seeds: list[int],
        steps: int = 30,
        guidance: float = 7.5,
        width: int | None = None,
        height: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
        edit: Control | None = None,
    ) -> Tensor:
        """Euler on the "normal" schedule, as ComfyUI's `euler` and `normal`: one picture a seed; with an
        edit, a source and its edited pictures a seed."""
        step = self.codec.downscale
        shape = [
            self.unet.config.out_channels,
            (height or self.native_size) // step,
            (width or self.native_size) // step,
        ]
        run = None
        if edit is not None:
            edit.check_model(self.fingerprint)
            shape[1:] = (edit.latent_size or shape)[1:]
            run = edit.begin(shape, steps, guidance)
        noise = torch.stack(
            [torch.randn(1, *shape, generator=torch.Generator().manual_seed(s))[0] for s in seeds]
        )
        sigmas = self.sigmas
        chosen = schedule.normal(sigmas, steps)
        if run is not None:
            noise = run.initial_noise(noise.repeat_interleave(run.rows, 0), float(chosen[0]))

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            share, without = schedule.progress(float(sigma), chosen.tolist()), uncond
            if run is not None:
                x = run.before_model(x, float(sigma))
                first = 0 if guidance == 1 else len(x)
                injection = run.injection(share, steps, cond.token_ids, cond.cross.shape[1])
                injector.set(injection, run.groups(range(first, first + len(x))), x)
                null = run.unconditional(float(sigma))
                if null is not None:
                    # A trajectory that was read from its file lies on the CPU.
                    without = Conditioning(null[None].to(cond.cross), uncond.pooled)
            t = schedule.timestep(sigma, sigmas).to(self.device).expand(len(x))
            scaled = (x / (1 + sigma**2).sqrt()).to(self.dtype)
            if guidance == 1:
                predicted = [self._predict(scaled, t, cond).float()]
            else:
                both = _joined(without, cond, len(x))
                predicted = list(self._predict(scaled.repeat(2, 1, 1, 1), t.repeat(2), both).float().chunk(2))
            clean = [schedule.denoised(x, p, sigma, self.v_prediction) for p in predicted]
            if run is not None:
                clean = run.after_model(clean, len(clean) - 1, share)
            plain, prompted = clean[0], clean[-1]
            return prompted if guidance == 1 else plain + guidance * (prompted - plain)

        with injecting(self.unet, run) if run is not None else contextlib.nullcontext() as injector:
            x = schedule.euler(denoise, noise.to(self.device), chosen.to(self.device), callback)
        return x.to(self.dtype)

    def _predict(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        count = len(latents)
        if self.inpainting:
            # All is masked, as ComfyUI has it where there is a prompt and no picture.
            blank = latents.new_tensor(BLANK)[:, None, None].expand_as(latents)
            latents = torch.cat([latents, torch.ones_like(latents[:, :1]), blank], dim=1)
        cross = _rows(cond.cross, count).to(latents)
        if cond.pooled is None:
            return self.unet(latents, t, encoder_hidden_states=cross).sample
        height, width = (side * self.codec.downscale for side in latents.shape[-2:])
        # SDXL's size conditioning: original size, crop corner, target size.
        sizes = latents.new_tensor([[height, width, 0, 0, height, width]]).expand(count, -1)
        added = {"text_embeds": _rows(cond.pooled, count).to(latents), "time_ids": sizes}
        return self.unet(latents, t, encoder_hidden_states=cross, added_cond_kwargs=added).sample

    def _amounts(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas_cumprod.to(t.device)[t][:, None, None, None]
        return alpha.sqrt().to(like), (1 - alpha).sqrt().to(like)

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


def _rows(values: Tensor, count: int) -> Tensor:
    """The rows over and over until there are `count`."""
    return values.repeat(count // len(values), *[1] * (values.ndim - 1))


def _joined(first: Conditioning, second: Conditioning, count: int) -> Conditioning:
    pooled = None
    if first.pooled is not None and second.pooled is not None:
        pooled = torch.cat([_rows(first.pooled, count), _rows(second.pooled, count)])
    return Conditioning(torch.cat([_rows(first.cross, count), _rows(second.cross, count)]), pooled)
