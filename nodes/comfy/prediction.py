"""What a MODEL predicts of a noisy latent: noise, v, or a flow's velocity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_sampling import CONST, EDM, EPS, V_PREDICTION, X0, ModelSamplingDiscrete
from comfy.model_sampling import ModelSamplingDiscreteEDM as DiscreteEDM
from torch import Tensor
from torch.nn import functional as F

from ...aai.errors import InputError
from . import families

TIMESTEPS = 1000


@dataclass(frozen=True)
class Diffusion:
    """A model of 1000 timesteps that predicts noise or v; x = x0 + sigma n in ComfyUI's scale."""

    sampling: object
    v_prediction: bool

    @property
    def ratios(self) -> Tensor:
        """Noise over signal at each timestep [T], ascending."""
        # Not `sampling.sigmas`, which need not have an entry for each: LCM's are 50.
        return self.sigma(torch.arange(TIMESTEPS))

    def sigma(self, t: Tensor) -> Tensor:
        """ComfyUI's sigma at timesteps t [B]."""
        return self.sampling.sigma(t).float()

    def noisy(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return latents + noise * spread(sigma, latents)

    def scaled(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """Variance-preserving noisy latents in ComfyUI's scale."""
        return latents * spread((1 + sigma**2).sqrt(), latents)

    def noise(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoised) / spread(sigma, x)

    def loss(self, x: Tensor, denoised: Tensor, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        if not self.v_prediction:
            return F.mse_loss((x - denoised) / spread(sigma, x), noise)
        # v = a noise - b x0, a = 1 / sqrt(1 + sigma^2), b = a sigma: the error in v is the one in x0 over b.
        share = spread(sigma / (1 + sigma**2).sqrt(), x)
        return F.mse_loss(denoised / share, latents / share)


@dataclass(frozen=True)
class Flow:
    """A rectified flow: x = (1 - s) x0 + s n, and the model predicts v = n - x0. The timesteps are spread as
    its own schedule has it (with its shift)."""

    sampling: object

    @property
    def ratios(self) -> Tensor:
        s = self.sigma(torch.arange(TIMESTEPS))
        return s / (1 - s)

    def sigma(self, t: Tensor) -> Tensor:
        shares = (t.cpu().double() + 0.5) / TIMESTEPS
        # Core counts from all noise (0) to none (1).
        values = [float(self.sampling.percent_to_sigma(1 - share)) for share in shares.tolist()]
        return torch.tensor(values, device=t.device)

    def noisy(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return self.sampling.noise_scaling(sigma, noise, latents)

    def scaled(self, latents: Tensor, sigma: Tensor) -> Tensor:
        return latents * spread((sigma**2 + (1 - sigma) ** 2).sqrt(), latents)

    def noise(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        return (x - spread(1 - sigma, x) * denoised) / spread(sigma, x)

    def loss(self, x: Tensor, denoised: Tensor, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        # The error in v is the one in x0 over s.
        share = spread(sigma, x)
        return F.mse_loss(denoised / share, latents / share)


def is_flow(model) -> bool:
    """Whether a MODEL predicts a flow."""
    sampling = model.get_model_object("model_sampling")
    return isinstance(sampling, CONST) and not _turns_pictures(sampling)


def _turns_pictures(sampling) -> bool:
    # Those that turn pictures into pictures predict the picture, under these names.
    return any(kind.__name__.startswith("IMG_TO_IMG") for kind in type(sampling).__mro__)


def prediction(model) -> Diffusion | Flow:
    """What a MODEL predicts. Raises InputError where it is none of these."""
    sampling = model.get_model_object("model_sampling")
    if is_flow(model):
        return Flow(sampling)
    pictures = _turns_pictures(sampling)
    discrete = isinstance(sampling, ModelSamplingDiscrete) and not isinstance(sampling, DiscreteEDM)
    if discrete and isinstance(sampling, EPS) and not isinstance(sampling, (EDM, X0)) and not pictures:
        _check_channels(model)
        diffusion = Diffusion(sampling, isinstance(sampling, V_PREDICTION))
        _check_timesteps(model, diffusion.ratios)
        return diffusion
    check_backward(model)
    raise InputError(
        f"{type(model.model).__name__} predicts neither noise, v nor a flow, so no word can be trained with "
        "it: load Stable Diffusion, Flux, Z-Image, Qwen-Image or another such model."
    )


def check_backward(model) -> None:
    """Raises InputError for a MODEL whose transformer has no backward pass, by its name."""
    name = families.find(families.UNTRAINABLE, model.model)
    if name is not None:
        raise InputError(
            f"{name} has no backward pass in ComfyUI, so no word can be trained with it: use Encode Sound's "
            "nearest words as its prompt."
        )


def _check_timesteps(model, ratios: Tensor) -> None:
    # LCM's first ones are equal.
    if not (ratios.diff() >= 0).all():
        raise InputError(
            f"{type(model.model).__name__} does not count its noise in {TIMESTEPS} timesteps, so no word can "
            "be trained with it: load Stable Diffusion, Flux, Z-Image, Qwen-Image or another such model."
        )


def _check_channels(model) -> None:
    unet = model.model.diffusion_model
    if not isinstance(unet, UNetModel):
        return
    channels, latent = unet.in_channels, model.get_model_object("latent_format").latent_channels
    inpainting = tuple(model.model.concat_keys) == ("mask", "masked_image")
    if channels != latent and not (inpainting and channels == 2 * latent + 1):
        raise InputError(
            f"This U-Net reads {channels} channels for latents of {latent}: load a checkpoint that draws "
            "from words alone, or an inpainting one."
        )


def spread(values: Tensor, like: Tensor) -> Tensor:
    """A number for each row [B] in the shape that multiplies `like` [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
