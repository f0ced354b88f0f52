"""PictureModel over ComfyUI's MODEL, CLIP and VAE."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import comfy.model_management
import comfy.sample
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_sampling import EDM, EPS, V_PREDICTION, X0, ModelSamplingDiscrete, ModelSamplingDiscreteEDM
from torch import Tensor
from torch.nn import functional as F

from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.loudness import Reweight
from ...aai.picture.checkpointing import checkpointing
from ...aai.picture.model import Conditioning, TextEncoderInfo, Vectors, vocabulary_statistics
from ...aai.prompt import Prompt
from . import patch
from .clip import as_core, encode, encoders, end_states, tokenize, vocabulary
from .training import Training, plain_attention, saved_copies, without_dynamic_memory


class ComfyPictureModel:
    """A MODEL, CLIP and VAE behind the PictureModel protocol.

    Latents are the diffusion model's own (scaled as in its training), [B, C, h, w] on the MODEL's device.
    Token training goes into `with picture.training() as model:`; all else works in inference mode too.
    """

    def __init__(self, model, clip, vae, sampler: str = "euler", scheduler: str = "normal"):
        self.model, self.clip, self.vae = model, clip, vae
        self.sampler, self.scheduler = sampler, scheduler
        sampling = model.get_model_object("model_sampling")
        discrete = isinstance(sampling, ModelSamplingDiscrete) and not isinstance(
            sampling, ModelSamplingDiscreteEDM
        )
        if not discrete or not isinstance(sampling, EPS) or isinstance(sampling, (EDM, X0)):
            raise InputError(
                "Sound tokens need a Stable Diffusion 1, 2 or XL model (noise or v prediction): "
                "load a checkpoint of one of these."
            )
        self.v_prediction = isinstance(sampling, V_PREDICTION)
        channels, latent = model.model.diffusion_model.in_channels, self._latent_channels
        inpainting = tuple(model.model.concat_keys) == ("mask", "masked_image")
        if channels != latent and not (inpainting and channels == 2 * latent + 1):
            raise InputError(
                f"This U-Net reads {channels} channels for latents of {latent}: load a checkpoint that draws "
                "from words alone, or an inpainting one."
            )
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
        return self.model.get_model_object("model_sampling").sigmas

    @property
    def text_encoders(self) -> dict[str, TextEncoderInfo]:
        """Vocabulary statistics of each CLIP text encoder."""
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
        """Per text encoder, the texts' states at the end token after the final LayerNorm [N, d]."""
        if self._training is None:
            comfy.model_management.load_models_gpu([self.clip.patcher])
        return {key: end_states(self.clip, key, texts) for key in encoders(self.clip)}

    def checkpointing(self) -> AbstractContextManager:
        """Inside, the U-Net's blocks keep only their inputs for the backward pass, which runs them again."""
        unet = self.model.model.diffusion_model
        return checkpointing(m for m in unet.modules() if isinstance(m, (ResBlock, SpatialTransformer)))

    @contextmanager
    def training(self, room: int = 0) -> Iterator[ComfyPictureModel]:
        """Inside, the yielded model's prompts and losses are differentiable in the tokens' vectors; `room` is
        the bytes that they need beside the weights."""
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
                latents.append(self.model.model.process_latent_in(self.vae.encode(one).to(self.device)))
            return torch.cat(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to pictures [B, 3, H, W] in [0, 1]."""
        # The autoencoder may have to be moved, which only inference mode does without harm (`Training.take`).
        with torch.inference_mode():
            pictures = self.vae.decode(self.model.model.process_latent_out(latents)).movedim(-1, 1)
        if self._training is not None:
            # The autoencoder may have taken the model's place.
            self._training.take()
        return pictures

    def encode_prompt(self, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
        """The prompt's conditioning; `vectors` {token name: {encoder: [n, d]}} replace the tokens' own."""
        if self._training is None:
            return encode(self.clip, prompt, vectors)
        pairs, token_ids = tokenize(self.clip, prompt, vectors)
        with saved_copies(self.clip.cond_stage_model):
            return Conditioning(*self._encode_in_place(pairs), (token_ids,))

    def predict_noise(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The noise in noisy latents [B, C, h, w] at timesteps t [B] (0..999), of v-prediction too."""
        sigma, x = self._noisy(latents, t)
        return (x - self._denoised(x, sigma, cond)) / _broadcast(sigma)

    def denoising_loss(self, latents: Tensor, cond: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error in what the model predicts, noise or v, at timesteps t [B]."""
        sigma = self._sigma(t)
        x = latents.to(self.device) + noise.to(self.device) * _broadcast(sigma)
        denoised = self._denoised(x, sigma, cond)
        if not self.v_prediction:
            return F.mse_loss((x - denoised) / _broadcast(sigma), noise.to(x))
        # v = a noise - b x0, a = 1 / sqrt(1 + sigma^2), b = a sigma: the error in v is the one in x0 over b.
        share = _broadcast(sigma / (1 + sigma**2).sqrt())
        return F.mse_loss(denoised / share, latents.to(x) / share)

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
        size = self.native_size
        shape = [1, self._latent_channels, (height or size) // 8, (width or size) // 8]
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
            empty.repeat(len(noise), 1, 1, 1), callback=report, disable_pbar=True, seed=seeds[0],
        )  # fmt: skip
        return self.model.model.process_latent_in(samples)

    def _encode_in_place(self, pairs: dict) -> tuple[Tensor, Tensor | None]:
        """CLIP.encode_from_tokens without its load_model: in training nothing may change its device."""
        text_model = self.clip.cond_stage_model
        text_model.reset_clip_options()
        if self.clip.layer_idx is not None:
            text_model.set_clip_options({"layer": self.clip.layer_idx})
        text_model.set_clip_options({"execution_device": self.clip.patcher.load_device})
        return text_model.encode_token_weights(pairs)[:2]

    @property
    def native_size(self) -> int:
        """The side in pixels that the model was trained at: what its config states, else 1024 (XL and its
        refiner), 768 (a v-prediction model of SD 2's width) or 512."""
        config = self.model.model.model_config
        stated = getattr(config, "native_size", None)
        if stated:
            return stated
        if config.unet_config.get("context_dim") in (1280, 2048):
            return 1024
        return 768 if self.v_prediction and config.unet_config.get("context_dim") == 1024 else 512

    @property
    def _latent_channels(self) -> int:
        return self.model.get_model_object("latent_format").latent_channels

    def _sigma(self, t: Tensor) -> Tensor:
        return self.model.get_model_object("model_sampling").sigma(t.to(self.device)).float()

    def _noisy(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Sigma [B], and variance-preserving latents in ComfyUI's scale: x0 + sigma noise."""
        sigma = self._sigma(t)
        return sigma, latents.to(self.device).float() * _broadcast((1 + sigma**2).sqrt())

    def _denoised(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        inner = self.model.model
        if self._training is None:
            comfy.model_management.load_models_gpu([self.model])
        extra = inner.extra_conds(
            cross_attn=cond.cross, pooled_output=cond.pooled, noise=x, latent_image=x, device=self.device,
            width=x.shape[3] * 8, height=x.shape[2] * 8,
        )  # fmt: skip
        conds = {
            k: v.process_cond(batch_size=len(x), device=self.device, area=None).cond for k, v in extra.items()
        }
        options = self.model.model_options["transformer_options"]
        # Other packs' patches read these entries of the sampler's: every row is of the prompt.
        options = {**options, "sigmas": sigma, "cond_or_uncond": [0], "uuids": [uuid.uuid4()]}
        if self._training is not None:
            options["optimized_attention_override"] = plain_attention
        with nullcontext() if self._training is not None else torch.no_grad():
            return inner.apply_model(x, sigma, **conds, transformer_options=options)


def _broadcast(values: Tensor) -> Tensor:
    return values[:, None, None, None]
