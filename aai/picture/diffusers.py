"""PictureModel over diffusers' parts: any Stable Diffusion 1, 2 or XL folder, or parts built by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embedding import WIDTHS
from ..errors import InputError, refused
from ..files import read_safetensors, variants_of
from ..prompt import Prompt
from . import schedule
from .attention import injecting
from .checkpointing import checkpointing
from .control import Control, check_no_film, check_no_words
from .flow import FlowPictureModel, computed_in
from .flow_families import flow_model
from .frozen import FrozenModel, repeated
from .model import Conditioning, Vectors
from .text_encoder import TextEncoder
from .unet_folder import check_unet_folder
from .velocity import FAMILIES

PARTS = "unet", "transformer", "vae", "text_encoder", "text_encoder_2"
"""The folders of a model in which weights lie."""


def load(
    path_or_id: str | Path, dtype: torch.dtype = torch.float32
) -> DiffusersPictureModel | FlowPictureModel:
    """A diffusers folder (or model id) as a picture model: Stable Diffusion 1, 2 or XL, Flux.1 or Z-Image.
    Its autoencoder is in float32, and a flow transformer that should be in float16 in bfloat16.

    Raises InputError where there is none, or it is of another family.
    """
    from diffusers import DiffusionPipeline

    with refused(
        lambda reason: (
            f"'{path_or_id}' cannot be loaded as a diffusers model ({reason}): name a folder with a "
            "model_index.json."
        )
    ):
        index = dict(DiffusionPipeline.load_config(str(path_or_id)))
        flows = _is_flow(index, path_or_id)
        variants = {*variants_of(path_or_id, *PARTS)} - {None}
        pipeline = DiffusionPipeline.from_pretrained(
            str(path_or_id),
            dtype={"default": computed_in(dtype) if flows else dtype, "vae": torch.float32},
            variant=min(variants, default=None),
            **({} if flows else {"safety_checker": None}),
        )
    parts = pipeline.components
    for name in ("tokenizer", "tokenizer_2"):
        length = getattr(parts.get(name), "model_max_length", 0)
        if isinstance(length, bool) or not isinstance(length, (int, float)):
            raise InputError(
                f"The {name} of '{path_or_id}' has '{length}' as its model_max_length: download it again."
            )
    model = flow_model(parts) if flows else _unet_model(parts)
    first = _written(model.denoiser) if model.dtype == torch.bfloat16 else None
    if first is not None:
        model.known_by(first)
    return model


def _unet_model(parts: Mapping[str, object]) -> DiffusersPictureModel:
    return DiffusersPictureModel(
        unet=parts["unet"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        vae=parts["vae"],
        scheduler_config=parts["scheduler"].config,
        text_encoder_2=parts.get("text_encoder_2"),
        tokenizer_2=parts.get("tokenizer_2"),
    )


def _written(denoiser: nn.Module) -> Tensor | None:
    """A denoiser's first weights as they stand in the file that it was loaded from; None where that is a
    pickle."""
    folder, (name, _) = Path(denoiser.config._name_or_path), next(denoiser.named_parameters())
    # Where a folder has variants too, its own weights are loaded, and their names are the shortest.
    for path in sorted(folder.glob("*.safetensors"), key=lambda path: len(path.name)):
        tensors, _ = read_safetensors(path, select=lambda names: [n for n in names if n == name])
        if tensors:
            return tensors[name]
    return None


def _is_flow(index: Mapping[str, object], path_or_id: str | Path) -> bool:
    """Whether a model_index.json is of a flow transformer that can be loaded, and not of a U-Net; no weights
    have been read yet. Raises InputError where it is of neither."""
    import diffusers

    kind = index.get("_class_name")
    _, transformer = index.get("transformer") or (None, None)
    if transformer in FAMILIES:
        if not hasattr(diffusers, transformer) or not hasattr(diffusers, str(kind)):
            raise InputError(
                f"The diffusers that is installed ({diffusers.__version__}) has no {kind}, which "
                f"'{path_or_id}' is: install a newer one (pip install -U diffusers)."
            )
        return True
    check_unet_folder(index, path_or_id)
    return False


BLANK = (0.8223, -0.6876, 0.6364, 0.1380)
"""A grey picture's latent in Stable Diffusion 1's autoencoder, which ComfyUI shows every inpainting model."""


class DiffusersPictureModel(FrozenModel):
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
        self.v_prediction = schedule.is_v_prediction(scheduler_config)
        self.alphas_cumprod = schedule.alphas_cumprod(scheduler_config)
        first = WIDTHS.get(text_encoder.config.hidden_size, "clip_l")
        encoders = {first: TextEncoder(tokenizer, text_encoder)}
        if text_encoder_2 is not None:
            encoders["clip_g"] = TextEncoder(tokenizer_2, text_encoder_2)
        latent, channels = unet.config.out_channels, unet.config.in_channels
        self.inpainting = channels == 2 * latent + 1
        if channels != latent and not (self.inpainting and latent == len(BLANK)):
            raise InputError(
                f"This U-Net reads {channels} channels for latents of {latent}: load a model that draws from "
                "words alone, or an inpainting model."
            )
        super().__init__(unet, encoders, vae)
        self.family = family

    @property
    def unet(self) -> nn.Module:
        return self.denoiser

    @property
    def guidance(self) -> float:
        return 5.0

    @property
    def native_size(self) -> int:
        """The side in pixels of the pictures that it was trained on."""
        return self.unet.config.sample_size * self.codec.downscale

    @property
    def sigmas(self) -> Tensor:
        """Noise over signal at each timestep [T], ascending."""
        return schedule.sigmas_of(self.alphas_cumprod)

    def check_editable(self) -> None:
        """Every U-Net takes edits."""

    def checkpointing(self) -> contextlib.AbstractContextManager:
        """Inside, the U-Net's blocks keep their inputs only for the backward pass."""
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.transformers.transformer_2d import Transformer2DModel

        blocks = [m for m in self.unet.modules() if isinstance(m, (ResnetBlock2D, Transformer2DModel))]
        return checkpointing(blocks)

    def encode_prompt(self, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
        """The prompt's conditioning, differentiable in `vectors` {token name: {encoder: [n, d]}}.

        Stable Diffusion 1 and 2 read the last hidden state after the final LayerNorm; SDXL the last but one
        of both text encoders side by side, and the second one's pooled text embedding.
        """
        states, pooled, token_ids = [], None, ()
        for key, encoder in self._text_encoders.items():
            layout = encoder.layout(prompt, key)
            output = encoder.run(layout, self._rows_of(prompt, key, layout.positions, vectors))
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
        edit, a source and its edited pictures a seed.

        Raises InputError for an edit with words' weights, or of a film, which it does not follow.
        """
        step = self.codec.downscale
        shape = [
            self.unet.config.out_channels,
            (height or self.native_size) // step,
            (width or self.native_size) // step,
        ]
        run = None
        if edit is not None:
            check_no_film(edit)
            check_no_words(edit)
            edit.check_model(self.fingerprint)
            shape[1:] = (edit.latent_size or shape)[1:]
            run = edit.begin(shape, steps, guidance)
        channels, *sides = shape
        noise = self.first_noise(seeds, *sides, channels)
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
            first = schedule.noisiest(noise.to(self.device), chosen[0].to(self.device))
            x = schedule.euler(denoise, first, chosen.to(self.device), callback)
        return x.to(self.dtype)

    def _predict(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        count = len(latents)
        if self.inpainting:
            # All is masked, as ComfyUI has it where there is a prompt and no picture.
            blank = latents.new_tensor(BLANK)[:, None, None].expand_as(latents)
            latents = torch.cat([latents, torch.ones_like(latents[:, :1]), blank], dim=1)
        cross = repeated(cond.cross, count).to(latents)
        if cond.pooled is None:
            return self.unet(latents, t, encoder_hidden_states=cross).sample
        height, width = (side * self.codec.downscale for side in latents.shape[-2:])
        # SDXL's size conditioning: original size, crop corner, target size.
        sizes = latents.new_tensor([[height, width, 0, 0, height, width]]).expand(count, -1)
        added = {"text_embeds": repeated(cond.pooled, count).to(latents), "time_ids": sizes}
        return self.unet(latents, t, encoder_hidden_states=cross, added_cond_kwargs=added).sample

    def _amounts(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas_cumprod.to(t.device)[t][:, None, None, None]
        return alpha.sqrt().to(like), (1 - alpha).sqrt().to(like)


def _joined(first: Conditioning, second: Conditioning, count: int) -> Conditioning:
    pooled = None
    if first.pooled is not None and second.pooled is not None:
        pooled = torch.cat([repeated(first.pooled, count), repeated(second.pooled, count)])
    return Conditioning(torch.cat([repeated(first.cross, count), repeated(second.cross, count)]), pooled)
