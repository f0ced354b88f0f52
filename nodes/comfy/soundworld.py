"""SoundWorld's weights as ordinary MODEL, CLIP and VAE objects.

The architectures are Stable Diffusion's at a small size, so ComfyUI's own U-Net and CLIP code runs them; what
core fixes to Stable Diffusion's sizes (vocabulary, latent channels, autoencoder) is supplied here.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import comfy.clip_model
import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.taesd.taesd
import comfy.utils
import torch
from comfy.model_base import ModelType
from torch import Tensor, nn

from ...aai.soundworld.loaders import WEIGHTS, read_weights
from ...aai.soundworld.models import (
    IMAGE_SIZE,
    LATENT_CHANNELS,
    SCHEDULER_CONFIG,
    TEXT_CONFIG,
    UNET_CONFIG,
    UNET_FAMILY,
    PatchAutoencoder,
)
from ...aai.soundworld.text import BOS, EOS


def load(weights: Path = WEIGHTS, embedding_folders: list[str] | None = None) -> tuple:
    """SoundWorld as (MODEL, CLIP, VAE); `embedding_folders` are searched for `embedding:name` in prompts.

    Raises InputError where a weight file is missing.
    """
    model = build_model(read_weights("unet", weights))
    clip = build_clip(read_weights("text", weights), weights / "tokenizer", embedding_folders)
    autoencoder = PatchAutoencoder()
    autoencoder.load_state_dict(read_weights("autoencoder", weights))
    latent_format = model.model.latent_format
    latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias = rgb_factors(autoencoder)
    return model, clip, build_vae(autoencoder)


def build_model(unet: dict[str, Tensor]):
    """A MODEL from a U-Net in diffusers' keys."""
    config = SoundWorldConfig(comfy_unet_config())
    config.set_inference_dtype(torch.float32, None)
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    model = config.get_model({}, device=offload_device)
    keys = comfy.utils.unet_to_diffusers(comfy_unet_config())
    model.load_model_weights({keys.get(k, k): v.float() for k, v in unet.items()}, "")
    # Not the dynamic patcher: so small a model stays loaded whole, and it trains without a reload from disk.
    return comfy.model_patcher.ModelPatcher(model, load_device=load_device, offload_device=offload_device)


def build_clip(text: dict[str, Tensor], tokenizer: Path, embedding_folders: list[str] | None = None):
    """A CLIP from a text tower in transformers' keys and a CLIPTokenizer's folder."""
    vocabulary = json.loads((tokenizer / "vocab.json").read_text(encoding="utf-8"))
    config = {**TEXT_CONFIG, "vocab_size": len(vocabulary), "eos_token_id": vocabulary[EOS]}
    special = {"start": vocabulary[BOS], "end": vocabulary[EOS], "pad": vocabulary[EOS]}

    class TextEncoder(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(
                device=device,
                dtype=dtype,
                layer="last",
                textmodel_json_config=dict(config),
                special_tokens=special,
                model_class=SmallTextModel,
                return_projected_pooled=False,
                model_options=model_options,
            )

    class TextModel(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(device=device, dtype=dtype, model_options=model_options, clip_model=TextEncoder)

    class WordTokenizer(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data={}):
            super().__init__(
                tokenizer_path=str(tokenizer),
                embedding_directory=embedding_directory,
                embedding_size=config["hidden_size"],
                tokenizer_data=tokenizer_data,
            )

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data={}):
            super().__init__(embedding_directory, tokenizer_data, tokenizer=WordTokenizer)

    state = {k if k.startswith("text_model.") else f"text_model.{k}": v.float() for k, v in text.items()}
    state.pop("text_model.embeddings.position_ids", None)
    state["text_projection.weight"] = torch.eye(config["hidden_size"])
    target = comfy.supported_models_base.ClipTarget(Tokenizer, TextModel)
    options: dict = dict(embedding_directory=embedding_folders, model_options={"dtype": torch.float32})
    parameters = inspect.signature(comfy.sd.CLIP).parameters
    if "disable_dynamic" in parameters:
        options["disable_dynamic"] = True
    if "state_dict" in parameters:
        return comfy.sd.CLIP(target, state_dict=[state], **options)
    clip = comfy.sd.CLIP(target, **options)
    clip.load_sd(state)
    return clip


def build_vae(autoencoder: PatchAutoencoder):
    """A VAE around SoundWorld's autoencoder, for core's VAE Encode and Decode nodes, tiled ones too."""
    # VAE knows architectures by their keys; a small known one, with as many channels, sets up the rest.
    stand_in = comfy.taesd.taesd.TAESD(latent_channels=LATENT_CHANNELS).state_dict()
    vae = comfy.sd.VAE(sd=stand_in, dtype=torch.float32)
    vae.first_stage_model = autoencoder.eval().requires_grad_(False)
    vae.disable_offload = True
    vae.memory_used_encode = lambda shape, dtype: 1000 * shape[2] * shape[3]
    vae.memory_used_decode = lambda shape, dtype: 1000 * shape[2] * shape[3] * 64
    vae.patcher = comfy.model_patcher.ModelPatcher(
        autoencoder, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )
    vae.size = None
    return vae


def comfy_unet_config() -> dict:
    """The arguments of ComfyUI's UNetModel for SoundWorld's U-Net."""
    widths, layers = UNET_CONFIG["block_out_channels"], UNET_CONFIG["layers_per_block"]
    return {
        "image_size": UNET_CONFIG["sample_size"],
        "in_channels": UNET_CONFIG["in_channels"],
        "out_channels": UNET_CONFIG["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [w // widths[0] for w in widths],
        "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [1] * layers * len(widths),
        "transformer_depth_output": [1] * (layers + 1) * len(widths),
        "transformer_depth_middle": 1,
        "context_dim": UNET_CONFIG["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "legacy": False,
        "adm_in_channels": None,
    }


def rgb_factors(autoencoder: PatchAutoencoder) -> tuple[list[list[float]], list[float]]:
    """ComfyUI's `latent_rgb_factors` [channels][3], each channel's mean colour, and their bias [3]."""
    factors = autoencoder.synthesis.weight.detach().float().mean((2, 3))
    return factors.tolist(), autoencoder.synthesis.bias.detach().float().tolist()


class SoundWorldLatent(comfy.latent_formats.LatentFormat):
    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS


class SoundWorldConfig(comfy.supported_models_base.BASE):
    """Stable Diffusion 1's settings at SoundWorld's size."""

    unet_extra_config = {"num_heads": UNET_CONFIG["attention_head_dim"], "num_head_channels": -1}
    sampling_settings = {
        "linear_start": SCHEDULER_CONFIG["beta_start"],
        "linear_end": SCHEDULER_CONFIG["beta_end"],
        "timesteps": SCHEDULER_CONFIG["num_train_timesteps"],
    }
    latent_format = SoundWorldLatent
    memory_usage_factor = 1.0
    native_size = IMAGE_SIZE
    family = UNET_FAMILY

    def model_type(self, state_dict, prefix=""):
        kinds = {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}
        return kinds[SCHEDULER_CONFIG["prediction_type"]]

    def inpaint_model(self):
        # Core takes a U-Net of more than four input channels for an inpainting model's.
        return False


class SmallTextModel(comfy.clip_model.CLIPTextModel):
    """Core's CLIP text model with a vocabulary of the config's size."""

    def __init__(self, config_dict, dtype, device, operations):
        super().__init__(config_dict, dtype, device, operations)
        self.text_model.embeddings = comfy.clip_model.CLIPEmbeddings(
            config_dict["hidden_size"],
            vocab_size=config_dict["vocab_size"],
            num_positions=config_dict["max_position_embeddings"],
            dtype=dtype,
            device=device,
            operations=operations,
        )

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.embeddings.token_embedding
