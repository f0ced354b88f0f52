"""PictureModel over ComfyUI's MODEL, CLIP and VAE."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import comfy.model_management
import comfy.sample
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor

from ...aai.embedding import CLIPS
from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.loudness import Reweight
from ...aai.picture.checkpointing import checkpointing
from ...aai.picture.model import Conditioning, TextEncoderInfo, Vectors, vocabulary_statistics
from ...aai.prompt import Prompt
from . import families, patch
from .clip import as_core, conditioning, encode, encoders, end_states, tokenize, vocabulary, word_rows
from .prediction import Flow, prediction
from .training import (
    Training,
    blocks,
    check_trainable,
    differentiable,
    differentiable_text,
    plain_attention,
    without_dynamic_memory,
)


class ComfyPictureModel:
    """A MODEL, CLIP and VAE behind the PictureModel protocol.

    Latents are the diffusion model's own (scaled as in its training), [B, C, h, w] on the MODEL's device.
    Token training goes into `with picture.training() as model:`; all else works in inference mode too.
    """

    def __init__(self, model, clip, vae, sampler: str = "euler", scheduler: str = "normal"):
        self.model, self.clip, self.vae = model, clip, vae
        self.sampler, self.scheduler = sampler, scheduler
        self.prediction = prediction(model)
        self._training: Training | None = None
        self._vocabularies: dict[str, TextEncoderInfo] | None = None

    @property
    def device(self) -> torch.device:
        return self.model.load_device

    @property
    def dtype(self) -> torch.dtype:
        # Weights kept in eight bits, or in what the device cannot compute in, are cast for each use.
        return self.model.model.manual_cast_dtype or self.model.model.get_dtype()

    @property
    def fingerprint(self) -> str:
        return patch.fingerprint_of(self.model)

    @property
    def sigmas(self) -> Tensor:
        """Noise over signal at each timestep [T], ascending."""
        return self.prediction.ratios

    @property
    def text_encoders(self) -> dict[str, TextEncoderInfo]:
        """Vocabulary statistics of each text encoder."""
        if self._vocabularies is None:
            self._vocabularies = {}
            for key in encoders(self.clip):
                table = vocabulary(self.clip, key)
                self._vocabularies[key] = vocabulary_statistics(
                    lambda ids, table=table: table(ids, out_dtype=torch.float32),
                    table.num_embeddings,
                    table.weight.device,
                )
        return self._vocabularies

    def embed_text(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Per text encoder, where texts are that a sound may be [N, d]: CLIP's states at the end token after
        the final LayerNorm, others' mean word embeddings."""
        if self._training is None:
            comfy.model_management.load_models_gpu([self.clip.patcher])
        else:
            self._training.take(self.clip.patcher)
        found = {}
        for key in encoders(self.clip):
            place = end_states if key in CLIPS else word_rows
            found[key] = place(self.clip, key, texts)
        return found

    @property
    def widths(self) -> dict[str, int]:
        """The width of each text encoder's words."""
        return {key: vocabulary(self.clip, key).embedding_dim for key in encoders(self.clip)}

    def embed_words(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Per text encoder, the mean of the texts' pieces' word embeddings [N, d]."""
        return {key: word_rows(self.clip, key, texts) for key in encoders(self.clip)}

    def check_editable(self) -> None:
        """Raises InputError for a transformer whose attention no edit reaches."""
        patch.check_editable(self.model)

    def checkpointing(self) -> AbstractContextManager:
        """Inside, the model's blocks keep only their inputs for the backward pass, which runs them again."""
        model = self.model.model.diffusion_model
        unets = [m for m in model.modules() if isinstance(m, (ResBlock, SpatialTransformer))]
        if unets:
            return checkpointing(unets)
        return checkpointing(blocks(model), functools.partial(differentiable, model))

    @contextmanager
    def training(self, room: int = 0) -> Iterator[ComfyPictureModel]:
        """Inside, the yielded model's prompts and losses are differentiable in the tokens' vectors; `room` is
        the bytes that they need beside the weights.

        Raises InputError for a model that has no backward pass, by its name.
        """
        check_trainable(self.model, self.clip)
        model = ComfyPictureModel(
            without_dynamic_memory(self.model),
            without_dynamic_memory(self.clip),
            self.vae,
            self.sampler,
            self.scheduler,
        )
        patchers = [model.model, model.clip.patcher]
        twins = [p for p in patchers if p not in (self.model, self.clip.patcher)]
        with Training(patchers, room, twins) as training:
            model._training = training
            yield model

    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] to latents."""
        with torch.no_grad():
            latents = []
            for one in images.movedim(1, -1).split(1):
                comfy.model_management.throw_exception_if_processing_interrupted()
                latent = self.vae.encode(one).to(self.device)
                if len(self._latent_shape(8, 8)) == 5 and latent.ndim == 4:
                    latent = latent.unsqueeze(2)
                latents.append(self.model.model.process_latent_in(latent))
            return torch.cat(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures [B, 3, H, W] in [0, 1]."""
        # The autoencoder may have to be moved, which only inference mode does without harm (`Training.take`).
        with torch.inference_mode():
            pictures = self.vae.decode(self.model.model.process_latent_out(latents))
            # A video's frames; a picture is one.
            pictures = pictures.reshape(-1, *pictures.shape[-3:]).movedim(-1, 1)
        if self._training is not None:
            # The autoencoder may have taken the model's place.
            self._training.take_all()
        return pictures

    def encode_prompt(self, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
        """The prompt's conditioning; `vectors` {token name: {encoder: [n, d]}} replace the tokens' own."""
        if self._training is None:
            return encode(self.clip, prompt, vectors)
        pairs, token_ids = tokenize(self.clip, prompt, vectors)
        self._training.take(self.clip.patcher)
        with differentiable_text(self.clip.cond_stage_model):
            cross, pooled, *extra = self._encode_in_place(pairs)
        return conditioning(self.clip, token_ids, cross, pooled, extra[0] if extra else {})

    def predict_noise(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The noise in noisy latents [B, C, ...] at timesteps t [B] (0..999), whatever the model predicts."""
        sigma = self.prediction.sigma(t.to(self.device))
        x = self.prediction.scaled(latents.to(self.device).float(), sigma)
        return self.prediction.noise(x, self._denoised(x, sigma, cond), sigma)

    def denoising_loss(self, latents: Tensor, cond: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error in what the model predicts, noise, v or a flow, at timesteps t [B]."""
        sigma, latents = self.prediction.sigma(t.to(self.device)), latents.to(self.device)
        x = self.prediction.noisy(latents, noise.to(self.device), sigma)
        denoised = self._denoised(x, sigma, cond)
        return self.prediction.loss(x, denoised, latents.to(x), noise.to(x), sigma)

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
        edit: Edit | Reweight | None = None,
    ) -> Tensor:
        """One latent per seed, each as KSampler makes it alone, or with an edit a source and its edited
        pictures a seed; callback(step, steps, denoised)."""
        shape = self._latent_shape(height or self.native_size, width or self.native_size)
        if edit is not None and edit.latent_size:
            shape = [1, *edit.latent_size]
        empty = torch.zeros(shape, device=comfy.model_management.intermediate_device())
        rows = edit.rows if edit else 1
        noise = torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds])
        noise = noise.repeat_interleave(rows, 0)
        model = self.model if edit is None else patch.attach(self.model, edit)
        report = None if callback is None else lambda step, x0, x, total: callback(step + 1, total, x0)
        samples = comfy.sample.sample(
            model, noise, steps, guidance, self.sampler, self.scheduler, as_core(cond), as_core(uncond),
            torch.cat([empty] * len(noise)), callback=report, disable_pbar=True, seed=seeds[0],
        )  # fmt: skip
        return self.model.model.process_latent_in(samples)

    def _encode_in_place(self, pairs: dict) -> tuple:
        """CLIP.encode_from_tokens without its load_model: in training nothing may change its device."""
        text_model = self.clip.cond_stage_model
        text_model.reset_clip_options()
        if self.clip.layer_idx is not None:
            text_model.set_clip_options({"layer": self.clip.layer_idx})
        text_model.set_clip_options({"execution_device": self.clip.patcher.load_device})
        return text_model.encode_token_weights(pairs)

    @property
    def family(self) -> str:
        """What its config states; else ComfyUI's own name of a flow model's: "ZImage", "Flux" ..."""
        config = self.model.model.model_config
        own = type(config).__name__ if isinstance(self.prediction, Flow) else ""
        # Core's configs have None for whatever they lack.
        return getattr(config, "family", None) or own

    @property
    def native_size(self) -> int:
        """The side in pixels that the model was trained at: what its config states, else 1024 (XL and its
        refiner, flow models that draw pictures), 768 (a v-prediction model of SD 2's width) or 512."""
        config = self.model.model.model_config
        stated = getattr(config, "native_size", None)
        if stated:
            return stated
        if isinstance(self.prediction, Flow):
            return families.find(families.SIZES, self.model.model) or 1024
        if config.unet_config.get("context_dim") in (1280, 2048):
            return 1024
        return 768 if self.prediction.v_prediction and config.unet_config.get("context_dim") == 1024 else 512

    @property
    def guidance(self) -> float:
        """The guidance of a quick picture: none for models that were distilled with it."""
        parameters = getattr(self.model.model.diffusion_model, "params", None)
        distilled = families.is_one(families.DISTILLED, self.model.model.model_config)
        return 1.0 if distilled or getattr(parameters, "guidance_embed", False) else 5.0

    def _latent_shape(self, height: int, width: int) -> list[int]:
        """The shape of one picture's latent; a video model's picture is a film of one frame."""
        latent = self.model.get_model_object("latent_format")
        down = getattr(latent, "spacial_downscale_ratio", 8)
        frames = [1] if getattr(latent, "latent_dimensions", 2) == 3 else []
        return [1, latent.latent_channels, *frames, height // down, width // down]

    def _denoised(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        inner = self.model.model
        if self._training is None:
            comfy.model_management.load_models_gpu([self.model])
        else:
            self._training.take(self.model)
        options = self.model.model_options["transformer_options"]
        # Other packs' patches read these entries of the sampler's: every row is of the prompt.
        options = {**options, "sigmas": sigma, "cond_or_uncond": [0], "uuids": [uuid.uuid4()]}
        if self._training is not None:
            options["optimized_attention_override"] = plain_attention
        gradients = torch.no_grad()
        if self._training is not None:
            unet = isinstance(inner.diffusion_model, UNetModel)
            gradients = nullcontext() if unet else differentiable(inner.diffusion_model)
        with gradients, fitting(self.model, self.clip):
            extra = inner.extra_conds(
                **cond.extra, cross_attn=cond.cross, pooled_output=cond.pooled, noise=x, latent_image=x,
                device=self.device, width=x.shape[-1] * 8, height=x.shape[-2] * 8,
            )  # fmt: skip
            conds = {
                k: v.process_cond(batch_size=len(x), device=self.device, area=None).cond
                for k, v in extra.items()
            }
            return inner.apply_model(x, sigma, **conds, transformer_options=options)


@contextmanager
def fitting(model, clip) -> Iterator[None]:
    """Inside, a text that is not as wide as the model reads is an InputError."""
    try:
        yield
    except RuntimeError as error:
        if not any(part in str(error) for part in ("shapes cannot be multiplied", "normalized_shape=")):
            raise
        raise InputError(
            f"This CLIP ({', '.join(encoders(clip))}) is not the text encoder of this model "
            f"({type(model.model.model_config).__name__}): connect the one that belongs to it."
        ) from error
