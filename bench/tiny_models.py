"""Families of picture models at a tiny size: ComfyUI's own classes and tokenizers, random weights.

`build` needs ComfyUI's modules importable. A family's text encoders have few and narrow layers; their words
are 32 wide, where the family's code does not fix another width.
"""

from __future__ import annotations

import base64
import functools
import importlib
import inspect
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from unittest import mock

import torch
from torch import nn

WIDTH = 32
"""Of the tiny encoders' words."""
CLIP = dict(num_hidden_layers=3, intermediate_size=64, hidden_size=WIDTH, num_attention_heads=4)
T5 = dict(num_layers=2, d_model=WIDTH, d_ff=64, d_kv=8, num_heads=4)
LLM = dict(
    num_hidden_layers=3, hidden_size=WIDTH, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1
)
SENTENCES = """a photo of rain in the city at night
a dog barks in the rain and thunder rolls over the city
the fire of a clock tower under fireworks
wind and sea waves by the helicopter
a rooster crows in the village at dawn
an image of a painting with the sound of a storm"""
IM = "<|im_start|>"


@dataclass(frozen=True)
class Family:
    """module, tokenizer, text: where in comfy.text_encoders its classes are, and their names; `text` may be a
    function that makes the class, of `given`. encoders: each one's configuration by its key.
    config: the class in comfy.supported_models, of the settings `unet`. latent: the shape of a training
    picture's [C, ...]. tokens: what the tokenizer is built from. layers: those that are read, where a family
    goes by their numbers.
    """

    name: str
    module: str
    tokenizer: str
    text: str
    encoders: dict[str, dict]
    config: str
    unet: dict
    latent: tuple[int, ...] = (16, 8, 8)
    given: dict | None = None
    tokens: Callable[[], dict] = dict
    layers: list[int] | None = None


def flux(**changes) -> dict:
    return {
        **dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=WIDTH, context_in_dim=WIDTH),
        **dict(hidden_size=48, mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=2, patch_size=2),
        **dict(axes_dim=[8, 8, 8], theta=10000, qkv_bias=True, guidance_embed=True, txt_ids_dims=[]),
        **changes,
    }


def flux2(context: int) -> dict:
    return flux(
        image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=context,
        hidden_size=64, axes_dim=[8, 8, 8, 8], num_heads=2, patch_size=1, theta=2000, qkv_bias=False,
        ops_bias=False, global_modulation=True, mlp_silu_act=True, txt_ids_dims=[3],
        default_ref_method="index", ref_index_scale=10.0,
    )  # fmt: skip


def lumina(**changes) -> dict:
    return {
        **dict(image_model="lumina2", patch_size=2, in_channels=16, dim=48, cap_feat_dim=WIDTH, n_layers=2),
        **dict(n_refiner_layers=1, qk_norm=True, n_heads=2, n_kv_heads=2, axes_dims=[8, 8, 8]),
        **dict(axes_lens=[300, 512, 512], multiple_of=16, ffn_dim_multiplier=1.0),
        **changes,
    }


def pieces() -> dict:
    """A small SentencePiece vocabulary of its own."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES.splitlines() * 20), model_writer=model, vocab_size=80, pad_id=0,
        eos_id=1, bos_id=2, unk_id=3, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return {"spiece_model": torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)}


def tekken() -> dict:
    """A small vocabulary of bytes and a few words in Mistral's form."""
    words = [bytes([i]) for i in range(256)]
    words += [w.encode() for w in (" r", " ra", " rai", " rain", " p", " ph", " pho", " phot", " photo")]
    vocabulary = [
        {"rank": i, "token_bytes": base64.b64encode(word).decode(), "token_str": None}
        for i, word in enumerate(words)
    ]
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += [f"<{i}>" for i in range(13 - len(special))]
    blob = json.dumps(
        {
            "config": {"default_num_special_tokens": 13, "default_vocab_size": 13 + len(words)},
            "vocab": vocabulary,
            "special_tokens": [{"rank": i, "token_str": word} for i, word in enumerate(special)],
        }
    )
    return {"tekken_model": torch.frombuffer(bytearray(blob.encode()), dtype=torch.uint8)}


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "Z-Image", "z_image", "ZImageTokenizer", "te", {"qwen3_4b": LLM}, "ZImage",
            lumina(z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32, rope_theta=256.0,
                   dim=256, axes_dims=[32, 48, 48]),
            given={},
        ),
        Family(
            "Qwen-Image", "qwen_image", "QwenImageTokenizer", "te", {"qwen25_7b": LLM}, "QwenImage",
            dict(image_model="qwen_image", in_channels=64, num_layers=2, attention_head_dim=24,
                 num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(8, 8, 8)),
            latent=(16, 1, 8, 8), given={},
        ),
        Family(
            "Flux.1", "flux", "FluxTokenizer", "flux_clip", {"clip_l": CLIP, "t5xxl": T5}, "Flux", flux(),
            given={},
        ),
        Family(
            "Flux.2", "flux", "Flux2Tokenizer", "flux2_te", {"mistral3_24b": {**LLM, "vocab_size": 400}},
            "Flux2", flux2(3 * WIDTH), latent=(128, 4, 4), given={}, tokens=tekken,
            layers=[0, 1, 2],
        ),
        Family(
            "Flux.2 Klein", "flux", "KleinTokenizer", "klein_te", {"qwen3_4b": LLM}, "Flux2",
            flux2(3 * WIDTH), latent=(128, 4, 4), given={}, layers=[0, 1, 2],
        ),
        Family(
            "Chroma", "pixart_t5", "PixArtTokenizer", "pixart_te", {"t5xxl": T5}, "Chroma",
            dict(image_model="chroma", in_channels=64, out_channels=64, in_dim=64, out_dim=48, hidden_dim=48,
                 n_layers=1, context_in_dim=WIDTH, hidden_size=48, mlp_ratio=2.0, num_heads=2, depth=1,
                 depth_single_blocks=1, axes_dim=[8, 8, 8], theta=10000, patch_size=2, qkv_bias=True,
                 txt_ids_dims=[], vec_in_dim=None),
            given={},
        ),
        Family(
            "SD3.5", "sd3_clip", "SD3Tokenizer", "sd3_clip",
            {"clip_l": CLIP, "clip_g": CLIP, "t5xxl": {**T5, "d_model": 4096, "vocab_size": 32128}}, "SD3",
            dict(in_channels=16, out_channels=16, patch_size=2, depth=1, input_size=None,
                 adm_in_channels=2 * WIDTH, qk_norm="rms", pos_embed_scaling_factor=None, num_patches=36864,
                 pos_embed_max_size=192, x_block_self_attn_layers=[0],
                 context_embedder_config={"target": "torch.nn.Linear",
                                          "params": {"in_features": 4096, "out_features": 64}}),
            given={},
        ),
        Family(
            "Wan 2.x", "wan", "WanT5Tokenizer", "te", {"umt5xxl": {**T5, "vocab_size": 100}}, "WAN21_T2V",
            dict(image_model="wan2.1", model_type="t2v", dim=48, ffn_dim=64, text_dim=WIDTH, num_heads=2,
                 num_layers=2, in_dim=16, out_dim=16, freq_dim=32),
            latent=(16, 1, 8, 8), given={}, tokens=pieces,
        ),
        Family(
            "LTX", "lt", "LTXVT5Tokenizer", "ltxv_te", {"t5xxl": T5}, "LTXV",
            dict(image_model="ltxv", num_layers=2, attention_head_dim=24, num_attention_heads=2,
                 cross_attention_dim=48, caption_channels=WIDTH),
            latent=(128, 1, 4, 4), given={},
        ),
        Family(
            "Lumina2", "lumina2", "LuminaTokenizer", "te", {"gemma2_2b": {**LLM, "vocab_size": 120}},
            "Lumina2", lumina(), given={}, tokens=pieces,
        ),
        Family(
            "HiDream", "hidream", "HiDreamTokenizer", "hidream_clip",
            {"clip_l": CLIP, "clip_g": CLIP, "t5xxl": T5, "llama": {**LLM, "num_hidden_layers": 4}},
            "HiDream",
            dict(image_model="hidream", patch_size=2, in_channels=16, out_channels=16, num_layers=1,
                 num_single_layers=1, attention_head_dim=24, num_attention_heads=2,
                 caption_channels=[WIDTH, WIDTH], text_emb_dim=2 * WIDTH, num_routed_experts=2,
                 num_activated_experts=1, axes_dims_rope=(8, 8, 8), llama_layers=[1, 2]),
            given={},
        ),
        Family(
            "AuraFlow", "aura_t5", "AuraT5Tokenizer", "AuraT5Model", {"pile_t5xl": T5}, "AuraFlow",
            dict(max_seq=64, cond_seq_dim=WIDTH, n_double_layers=1, n_layers=2, dim=48, n_heads=2,
                 global_conddim=48),
            latent=(4, 8, 8),
        ),
        Family(
            "HunyuanVideo", "hunyuan_video", "HunyuanVideoTokenizer", "hunyuan_video_clip",
            {"clip_l": CLIP, "llama": {**LLM, "num_hidden_layers": 4}}, "HunyuanVideo",
            dict(image_model="hunyuan_video", in_channels=16, out_channels=16, patch_size=[1, 2, 2],
                 vec_in_dim=WIDTH, context_in_dim=WIDTH, hidden_size=48, mlp_ratio=2.0, num_heads=2, depth=1,
                 depth_single_blocks=1, axes_dim=[8, 8, 8], theta=256, qkv_bias=True, guidance_embed=True,
                 byt5=False, meanflow=False, use_cond_type_embedding=False, vision_in_dim=None,
                 meanflow_sum=False),
            latent=(16, 1, 8, 8), given={},
        ),
        Family(
            "Omnigen2", "omnigen2", "Omnigen2Tokenizer", "te", {"qwen25_3b": LLM}, "Omnigen2",
            dict(image_model="omnigen2", patch_size=2, in_channels=16, hidden_size=48, num_layers=1,
                 num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16,
                 axes_dim_rope=(8, 8, 8), axes_lens=(1024, 512, 512), text_feat_dim=WIDTH,
                 timestep_scale=1000.0),
            given={},
        ),
        Family(
            "Cosmos", "cosmos", "CosmosT5Tokenizer", "te", {"t5xxl": T5}, "CosmosT2V",
            dict(image_model="cosmos", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16,
                 out_channels=16, patch_spatial=2, patch_temporal=1, model_channels=48, num_blocks=1,
                 num_heads=2, crossattn_emb_channels=WIDTH, pos_emb_cls="rope3d", block_x_format="THWBD",
                 affline_emb_norm=True, use_adaln_lora=True, adaln_lora_dim=8,
                 extra_per_block_abs_pos_emb=True, extra_per_block_abs_pos_emb_type="learnable"),
            latent=(16, 1, 8, 8), given={},
        ),
        Family(
            "Cosmos-Predict2", "cosmos", "CosmosT5Tokenizer", "te", {"t5xxl": T5}, "CosmosT2IPredict2",
            dict(image_model="cosmos_predict2", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16,
                 out_channels=16, patch_spatial=2, patch_temporal=1, model_channels=48, num_blocks=1,
                 num_heads=2, crossattn_emb_channels=WIDTH, pos_emb_cls="rope3d", use_adaln_lora=True,
                 adaln_lora_dim=8),
            latent=(16, 1, 8, 8), given={},
        ),
        Family(
            "Anima", "anima", "AnimaTokenizer", "te", {"qwen3_06b": LLM}, "Anima",
            dict(image_model="anima", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16,
                 out_channels=16, patch_spatial=2, patch_temporal=1, model_channels=48, num_blocks=1,
                 num_heads=2, crossattn_emb_channels=1024, pos_emb_cls="rope3d", use_adaln_lora=True,
                 adaln_lora_dim=8),
            latent=(16, 1, 8, 8), given={},
        ),
    )
}  # fmt: skip


class Absent(Exception):
    """This ComfyUI has no such family."""


@dataclass(frozen=True)
class Tiny:
    """A family's MODEL and CLIP, and pictures of its latents' shape to train on [3, C, ...]."""

    family: Family
    model: object
    clip: object
    latents: torch.Tensor


def build(family: Family, embeddings: list[str] = ()) -> Tiny:
    """A family of random weights, as a loader makes it; `embeddings` are searched for `embedding:name`.

    Raises Absent where ComfyUI does not have it.
    """
    import comfy.supported_models

    try:
        text = importlib.import_module(f"comfy.text_encoders.{family.module}")
    except ImportError as error:
        raise Absent(f"this ComfyUI has no {family.name}") from error
    config = getattr(comfy.supported_models, family.config, None)
    if config is None or not hasattr(text, family.text) or not hasattr(text, family.tokenizer):
        raise Absent(f"this ComfyUI has no {family.name}")
    generator = torch.Generator().manual_seed(0)
    # As a loader node does: in inference mode.
    with torch.inference_mode():
        clip = build_clip(family, text, list(embeddings))
        model = build_model(config(settings_of(family)))
    latents = torch.randn(3, *family.latent, generator=generator)
    return Tiny(family, model, clip, 0.5 * latents + torch.randn(1, *family.latent, generator=generator))


KINDS = {"fp8 with scales": "float8_e4m3fn", "nvfp4": "nvfp4", "int8": "int8_tensorwise"}
"""How checkpoints of today keep their weights in fewer bits, and what core calls it in a file."""


def build_quantized(family: Family, kind: str, embeddings: list[str] = ()) -> Tiny:
    """The family that `build` gives with its large layers, in the transformer and in its largest text
    encoder, in fewer bits: of KINDS, or "fp8", which is cast as it is.

    Raises Absent where ComfyUI has no such family, or no such kind of weights.
    """
    import comfy.model_management
    import comfy.supported_models

    plain = build(family, embeddings)
    text = importlib.import_module(f"comfy.text_encoders.{family.module}")
    config = getattr(comfy.supported_models, family.config)(settings_of(family))
    with torch.inference_mode():
        if kind == "fp8":
            clip = build_clip(family, text, list(embeddings), torch.float8_e4m3fn)
            return Tiny(family, build_model(config, torch.float8_e4m3fn), clip, plain.latents)
        given = inspect.signature(getattr(text, family.text)).parameters
        option = next((name for name in given if name.endswith("quantization_metadata")), None)
        if option is None or not hasattr(importlib.import_module("comfy.ops"), "mixed_precision_ops"):
            raise Absent(f"this ComfyUI has no {family.name} in {kind}")
        mixed = replace(family, given={**family.given, option: {"mixed_ops": True}})
        # Its layers have no weights yet, which a loader gives it before.
        with mock.patch.object(comfy.model_management, "load_models_gpu"):
            clip = build_clip(mixed, text, list(embeddings))
        for key in family.encoders:
            towers = (getattr(held.cond_stage_model, key).transformer for held in (plain.clip, clip))
            fill(*towers, KINDS[kind])
        config.quant_config = {"mixed_ops": True}
        model = build_model(config)
        fill(plain.model.model.diffusion_model, model.model.diffusion_model, KINDS[kind])
    return Tiny(family, model, clip, plain.latents)


def fill(plain: nn.Module, module: nn.Module, form: str) -> None:
    """Gives a module the weights of its plain twin, those of its large layers in fewer bits where it has
    layers for them."""
    large = {
        name
        for name, layer in plain.named_modules()
        if isinstance(layer, nn.Linear)
        and min(layer.weight.shape) >= 32
        and not any(s % 16 for s in layer.weight.shape)
    }
    # Core's layer of any number of bits is no nn.Linear.
    if all(hasattr(layer, "weight") for layer in module.modules() if hasattr(layer, "in_features")):
        return
    weights = plain.state_dict()
    for name in large:
        weights |= in_fewer_bits(name, weights[f"{name}.weight"], form)
    lacking, unknown = module.load_state_dict(weights, strict=False)
    if lacking or unknown:
        raise Absent(f"this ComfyUI keeps {form} otherwise: {lacking or unknown}")


def in_fewer_bits(name: str, weight: torch.Tensor, form: str) -> dict[str, torch.Tensor]:
    """A layer's weight as files hold it: its numbers, its scales, and what they are."""
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    try:
        made = QuantizedTensor.from_float(weight.float(), QUANT_ALGOS[form]["comfy_tensor_layout"])
    except KeyError as error:
        raise Absent(f"this ComfyUI has no {form}") from error
    scales = {"weight_scale": made._params.scale}
    if form == "nvfp4":
        scales = {"weight_scale_2": made._params.scale, "weight_scale": made._params.block_scale}
    told = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
    parts = {"weight": made._qdata, **scales, "comfy_quant": told}
    return {f"{name}.{part}": value for part, value in parts.items()}


def settings_of(family: Family) -> dict:
    """A family's settings, without those of Flux and Chroma that this ComfyUI does not know yet."""
    import comfy.ldm.chroma.model
    import comfy.ldm.flux.model

    kinds = {"flux": comfy.ldm.flux.model.FluxParams, "chroma": comfy.ldm.chroma.model.ChromaParams}
    kind = kinds.get(family.unet.get("image_model"))
    if kind is None:
        return dict(family.unet)
    known = {field.name for field in fields(kind)} | {"image_model"}
    return {key: value for key, value in family.unet.items() if key in known}


def build_clip(family: Family, text, embeddings: list[str], dtype: torch.dtype = torch.float32):
    """A CLIP whose weights are kept in `dtype`."""
    import comfy.sd
    import comfy.supported_models_base
    import comfy.text_encoders.qwen_vl as qwen_vl

    model = getattr(text, family.text)
    model = model if family.given is None else model(**family.given)
    target = comfy.supported_models_base.ClipTarget(getattr(text, family.tokenizer), model)
    options = {f"{key}_model_config": dict(config) for key, config in family.encoders.items()}
    options.update(dtype=dtype)
    # What the encoder sees pictures with: 600 million weights that no text passes.
    blind = functools.partial(qwen_vl.Qwen2VLVisionTransformer, num_layers=0)
    with mock.patch.object(qwen_vl, "Qwen2VLVisionTransformer", blind), llama_tokenizer(text):
        clip = comfy.sd.CLIP(
            target, embedding_directory=embeddings, tokenizer_data=family.tokens(), model_options=options
        )
    if family.layers:
        tower = getattr(clip.cond_stage_model, clip.cond_stage_model.clip)
        tower.layer, tower.options_default = family.layers, (family.layers, *tower.options_default[1:])
    randomize(clip.cond_stage_model, 1)
    return clip


def llama_tokenizer(text) -> AbstractContextManager:
    """Inside, a copy of ComfyUI that comes without Llama's vocabulary (17 MB) has one of bytes, two words and
    the chat's special tokens at their own ids. Raises Absent where that ComfyUI cannot have one."""
    folder = Path(text.__file__).parent / "llama_tokenizer"
    if not hasattr(text, "HunyuanVideoTokenizer") and not hasattr(text, "HiDreamTokenizer"):
        return nullcontext()
    if (folder / "tokenizer.json").exists():
        return nullcontext()
    try:
        from comfy.text_encoders import bpe_tokenizer
    except ImportError as error:
        raise Absent("this copy of ComfyUI has no vocabulary for Llama") from error
    letters = bpe_tokenizer._bytes_to_unicode()
    words = [[letters[b] for b in word.encode()] for word in ("user", " rain", "\n\n")]
    merges, vocabulary = {}, {letter: i for i, letter in enumerate(letters.values())}
    for word in words:
        for i in range(1, len(word)):
            pair = ("".join(word[:i]), word[i])
            merges.setdefault(pair, len(merges))
            vocabulary.setdefault("".join(pair), 300 + len(vocabulary))
    vocabulary |= {"user": 882, "".join(words[-1]): 271}
    special = {"<|begin_of_text|>": 128000, "<|start_header_id|>": 128006, "<|end_header_id|>": 128007}
    special["<|eot_id|>"] = 128009
    small = bpe_tokenizer.BPETokenizer(
        {**vocabulary, **special}, merges, special, bpe_tokenizer._LLAMA_PATTERN, letters,
        {v: k for k, v in letters.items()}, bos_id=128000,
    )  # fmt: skip
    return mock.patch.object(bpe_tokenizer.LlamaTokenizerFast, "from_pretrained", lambda *_, **__: small)


def build_vae(channels: int):
    """A small autoencoder of so many latent channels, eight pixels to a place."""
    import comfy.sd
    import comfy.taesd.taesd

    autoencoder = comfy.taesd.taesd.TAESD(latent_channels=channels)
    randomize(autoencoder, 3)
    return comfy.sd.VAE(sd=autoencoder.state_dict(), dtype=torch.float32)


def build_model(config, dtype: torch.dtype = torch.float32):
    """A MODEL of a configuration, its weights kept in `dtype` and computed with in float32."""
    import comfy.model_management
    import comfy.model_patcher

    config.set_inference_dtype(dtype, None if dtype == torch.float32 else torch.float32)
    with unfilled_as_nan():
        inner = config.get_model({}, "", device=torch.device("cpu"))
    randomize(inner, 2)
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    device = comfy.model_management.get_torch_device()
    return patcher(inner, load_device=device, offload_device=torch.device("cpu"))


@contextmanager
def unfilled_as_nan():
    """Inside, memory that a checkpoint is meant to fill is NaN, instead of whatever was there before."""
    before = torch.get_deterministic_debug_mode()
    # What fills it is part of PyTorch's deterministic mode (torch.utils.deterministic).
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def randomize(module: nn.Module, seed: int) -> None:
    """Weights of the size that keeps numbers as large as they come in; norms that do nothing. A buffer is
    drawn where it was made inside `unfilled_as_nan` and nothing filled it: SD3's positions are one."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        if not weight.is_floating_point():
            continue
        if weight.ndim < 2:
            # Not every type that weights are kept in can be filled.
            weight.copy_(torch.full(weight.shape, 0.0 if name.endswith("bias") else 1.0))
            continue
        drawn = torch.randn(weight.shape, generator=generator)
        fan = weight[0].numel() if weight.shape[0] < 5000 else weight.shape[0] ** 0.5
        weight.copy_(drawn / max(fan, 1) ** 0.5)
    for buffer in module.buffers():
        if buffer.is_floating_point() and buffer.isnan().any():
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
