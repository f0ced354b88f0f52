"""Tiny models of ComfyUI's classes (`tiny_models`) with the same weights in diffusers' and transformers'.

`FLUX`, `SCHNELL` and `Z_IMAGE` are the families at sizes that both have: diffusers fixes how wide their inner
layers are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from .tiny_models import CLIP, FAMILIES, LLM, T5, Tiny, flux, lumina

FLUX = replace(FAMILIES["Flux.1"], unet=flux(mlp_ratio=4.0))
SCHNELL = replace(
    FLUX, name="Flux.1 schnell", config="FluxSchnell", unet=flux(mlp_ratio=4.0, guidance_embed=False)
)
Z_IMAGE = replace(
    FAMILIES["Z-Image"],
    unet=lumina(
        z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32, rope_theta=256.0, dim=256,
        axes_dims=[32, 48, 48], multiple_of=2, ffn_dim_multiplier=8 / 3,
    ),
)  # fmt: skip
SCHEDULERS = {
    "Flux": {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "shift": 3.0},
    "FluxSchnell": {"use_dynamic_shifting": False, "shift": 1.0},
    "ZImage": {"use_dynamic_shifting": False, "shift": 3.0},
}
"""By ComfyUI's names: what the published folders' schedulers say."""


def parts(tiny: Tiny) -> dict[str, object]:
    """A tiny model's parts as diffusers' pipeline has them, without an autoencoder."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULERS[tiny.family.config])
    z_image = tiny.family.config == "ZImage"
    text = z_image_text(tiny) if z_image else flux_text(tiny)
    transformer = z_image_transformer(tiny) if z_image else flux_transformer(tiny)
    return {"transformer": transformer, "scheduler": scheduler, **text}


def flux_transformer(tiny: Tiny) -> nn.Module:
    from comfy.utils import flux_to_diffusers
    from diffusers import FluxTransformer2DModel

    config = tiny.family.unet
    model = FluxTransformer2DModel(
        in_channels=4 * config["in_channels"],
        num_layers=config["depth"],
        num_single_layers=config["depth_single_blocks"],
        attention_head_dim=config["hidden_size"] // config["num_heads"],
        num_attention_heads=config["num_heads"],
        joint_attention_dim=config["context_in_dim"],
        pooled_projection_dim=config["vec_in_dim"],
        guidance_embeds=config["guidance_embed"],
        axes_dims_rope=tuple(config["axes_dim"]),
    )
    return _filled(model, tiny.model.model.diffusion_model, flux_to_diffusers(config))


def z_image_transformer(tiny: Tiny) -> nn.Module:
    from comfy.utils import z_image_to_diffusers
    from diffusers import ZImageTransformer2DModel
    from diffusers.models.transformers.transformer_z_image import TimestepEmbedder

    config = tiny.family.unet
    model = ZImageTransformer2DModel(
        in_channels=config["in_channels"],
        dim=config["dim"],
        n_layers=config["n_layers"],
        n_refiner_layers=config["n_refiner_layers"],
        n_heads=config["n_heads"],
        n_kv_heads=config["n_kv_heads"],
        cap_feat_dim=config["cap_feat_dim"],
        rope_theta=config["rope_theta"],
        axes_dims=config["axes_dims"],
    )
    # ComfyUI's inner layer is as wide as the model where that is narrower than the published one's.
    model.t_embedder = TimestepEmbedder(256, mid_size=config["dim"])
    return _filled(model, tiny.model.model.diffusion_model, z_image_to_diffusers(config))


def flux_text(tiny: Tiny) -> dict[str, object]:
    import comfy.sd1_clip
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
        T5Config,
        T5EncoderModel,
        T5TokenizerFast,
    )

    folder, towers = Path(comfy.sd1_clip.__file__).parent, tiny.clip.cond_stage_model
    # As the published config has it, where 2 is no end but means that the highest id is.
    clip = CLIPTextModel(CLIPTextConfig(**CLIP, hidden_act="quick_gelu", eos_token_id=2))
    _loaded(clip, towers.clip_l.transformer.state_dict(), "text_model.")
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=32128, is_gated_act=True, dense_act_fn="gelu_new", feed_forward_proj="gated-gelu",
            tie_word_embeddings=False, **T5,
        )
    )  # fmt: skip
    _loaded(t5, towers.t5xxl.transformer.state_dict(), "")
    return {
        "text_encoder": clip,
        "tokenizer": CLIPTokenizer.from_pretrained(str(folder / "sd1_tokenizer"), model_max_length=77),
        "text_encoder_2": t5,
        "tokenizer_2": T5TokenizerFast.from_pretrained(str(folder / "text_encoders" / "t5_tokenizer")),
    }


def z_image_text(tiny: Tiny) -> dict[str, object]:
    import comfy.text_encoders
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

    (folder,) = comfy.text_encoders.__path__
    model = Qwen3Model(
        Qwen3Config(vocab_size=151936, head_dim=128, rms_norm_eps=1e-6, rope_theta=1_000_000.0, **LLM)
    )
    _loaded(model, tiny.clip.cond_stage_model.qwen3_4b.transformer.state_dict(), "model.")
    tokenizer = Qwen2Tokenizer.from_pretrained(str(Path(folder) / "qwen25_tokenizer"))
    return {"text_encoder": model, "tokenizer": tokenizer}


def autoencoder(channels: int = 16) -> nn.Module:
    """A small AutoencoderKL with Flux.1's scale and shift."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _filled(model: nn.Module, theirs: nn.Module, keys: dict) -> nn.Module:
    """A model of diffusers' keys with the weights of ComfyUI's; `keys` are what ComfyUI's loader goes by."""
    given = {k: v.detach().clone() for k, v in theirs.state_dict().items()}
    state = {}
    for name, own in model.state_dict().items():
        key, part, change = (*((keys[name],) if isinstance(keys[name], str) else keys[name]), None, None)[:3]
        value = given[key]
        value = value if part is None else value.narrow(*part)
        # Swapping two halves undoes itself.
        state[name] = (value if change is None else change(value)).reshape(own.shape)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _loaded(model: nn.Module, state: dict, prefix: str) -> None:
    """Loads what the model knows of a state, by keys with or without a prefix."""
    given = {k: v.detach().clone() for k, v in state.items()}
    own = {
        key: given.get(f"{prefix}{key}", given.get(key, given.get("shared.weight")))
        for key in model.state_dict()
    }
    model.load_state_dict(own)
    model.eval().requires_grad_(False)
