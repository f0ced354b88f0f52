"""Stable Diffusion 1.5, 2.1 and XL: published key layouts and text widths, few and narrow layers, random
weights; the same ones in ComfyUI and in diffusers."""

from __future__ import annotations

import gc
import os
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from tests.weights import fingerprint

SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
LABELS = ["rain", "thunder", "fire", "a dog", "a clock", "wind", "sea waves", "a rooster"]
FOUR = dict(
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
)
FAMILIES = {
    "SD15": dict(
        widths=(64, 64, 64, 64), layers=1, depth=(1, 1, 1, 0), linear=False, heads=8,
        text={"clip_l": (768, 12, "quick_gelu", 2)}, unet=FOUR, scaling=0.18215,
    ),
    "SD20": dict(
        widths=(64, 64, 64, 64), layers=2, depth=(1, 1, 1, 0), linear=True, heads=1,
        text={"clip_h": (1024, 16, "gelu", 2)}, unet=FOUR, scaling=0.18215,
    ),
    "SDXL": dict(
        widths=(64, 64, 128), layers=1, depth=(0, 1, 2), linear=True, heads=(1, 1, 2),
        text={"clip_l": (768, 12, "quick_gelu", 3), "clip_g": (1280, 20, "gelu", 3)}, scaling=0.13025,
        unet=dict(
            down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
            transformer_layers_per_block=(1, 1, 2), addition_embed_type="text_time",
            addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
        ),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, pack, comfy, comfy_path):
    return build(request.param, pack, comfy, comfy_path)


def build(name: str, pack, comfy, comfy_path, in_channels: int = 4, dtype=torch.float32) -> SimpleNamespace:
    """One family in both engines: `theirs` (a DiffusersPictureModel), `model`, `clip`, `vae`, `parts`."""
    import comfy.supported_models as supported
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    shape = FAMILIES[name]
    torch.manual_seed(0)
    folder = str(comfy_path / "comfy" / "sd1_tokenizer")
    encoders, tokenizers = [], []
    for key, (width, heads, act, layers) in shape["text"].items():
        config = CLIPTextConfig(
            vocab_size=49408, hidden_size=width, intermediate_size=128, num_hidden_layers=layers,
            num_attention_heads=heads, hidden_act=act, projection_dim=width, bos_token_id=49406,
            eos_token_id=49407,
        )  # fmt: skip
        kind = CLIPTextModelWithProjection if key == "clip_g" else CLIPTextModel
        encoders.append(kind(config).eval())
        pad = "<|endoftext|>" if key == "clip_l" else "!"
        tokenizers.append(CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=77))
    cross = sum(width for width, *_ in shape["text"].values())
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=in_channels, out_channels=4, block_out_channels=shape["widths"],
        layers_per_block=shape["layers"], cross_attention_dim=cross, attention_head_dim=shape["heads"],
        use_linear_projection=shape["linear"], **shape["unet"],
    ).eval()  # fmt: skip
    for module_name, module in unet.named_modules():
        if module_name.endswith(("attn2.to_v", "attn2.to_out.0")):
            # Random layers hardly look at the prompt.
            module.weight.data.mul_(4)
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4, layers_per_block=1, latent_channels=4, scaling_factor=shape["scaling"],
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    if name == "SD20":
        # By this ComfyUI tells a model that predicts v.
        torch.nn.init.normal_(unet.up_blocks[3].attentions[2].transformer_blocks[0].norm1.bias, std=0.2)
    parts = SimpleNamespace(
        unet=unet, text_encoder=encoders[0], tokenizer=tokenizers[0], vae=vae,
        scheduler_config={**SCHEDULE, "prediction_type": "v_prediction" if name == "SD20" else "epsilon"},
        text_encoder_2=(*encoders, None)[1], tokenizer_2=(*tokenizers, None)[1],
    )  # fmt: skip
    theirs = pack.part("aai.picture.diffusers").DiffusersPictureModel(**vars(parts))
    unet_config = comfy_unet_config(shape, cross, in_channels, name == "SDXL")
    config = getattr(supported, name)(dict(unet_config))
    state = published(config, unet, unet_config, dict(zip(shape["text"], encoders)), shape)
    with torch.inference_mode():
        model, clip = load(config, state, shape, dtype, comfy)
        core_vae = load_vae(vae)
    return SimpleNamespace(
        name=name, parts=parts, theirs=theirs, model=model, clip=clip, vae=core_vae, published=state
    )


def comfy_unet_config(shape: dict, cross: int, in_channels: int, xl: bool) -> dict:
    widths, layers, depth = shape["widths"], shape["layers"], shape["depth"]
    return {
        "image_size": 32, "in_channels": in_channels, "out_channels": 4, "model_channels": widths[0],
        "channel_mult": [w // widths[0] for w in widths], "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [d for d in depth for _ in range(layers)],
        "transformer_depth_output": [d for d in depth for _ in range(layers + 1)],
        "transformer_depth_middle": max(depth), "context_dim": cross, "use_spatial_transformer": True,
        "use_linear_in_transformer": shape["linear"], "legacy": False,
        "adm_in_channels": 2816 if xl else None, **({"num_classes": "sequential"} if xl else {}),
    }  # fmt: skip


def published(config, unet, unet_config: dict, encoders: dict, shape: dict) -> dict:
    """A checkpoint in the layout in which it is published."""
    import comfy.utils

    keys = comfy.utils.unet_to_diffusers(unet_config)
    state = {f"model.diffusion_model.{keys.get(k, k)}": v.clone() for k, v in unet.state_dict().items()}
    text = {}
    for key, encoder in encoders.items():
        for k, v in encoder.state_dict().items():
            if not k.startswith(("text_model.", "text_projection")):
                k = f"text_model.{k}"
            text[f"{key}.transformer.{k}"] = v.clone()
        if key == "clip_h":
            # Published with one layer more than Stable Diffusion 2 reads.
            last, more = (f"clip_h.transformer.text_model.encoder.layers.{i}." for i in (1, 2))
            text.update({k.replace(last, more): v.flip(0) for k, v in text.items() if k.startswith(last)})
    return {**state, **config.process_clip_state_dict_for_saving(text)}


def load(config, state: dict, shape: dict, dtype, base) -> tuple:
    """MODEL and CLIP of a published state, by ComfyUI's own classes at fewer layers."""
    import inspect

    import comfy.model_management
    import comfy.model_patcher
    import comfy.sd

    state = {k: v.clone() for k, v in state.items()}
    config.set_inference_dtype(dtype, torch.float32 if dtype != torch.float32 else None)
    device = comfy.model_management.get_torch_device()
    inner = config.get_model(state, "model.diffusion_model.", device=torch.device("cpu"))
    inner.load_model_weights(state, "model.diffusion_model.")
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    model = patcher(inner, load_device=device, offload_device=torch.device("cpu"))
    small = {
        key: {"num_hidden_layers": layers + (key == "clip_h"), "intermediate_size": 128}
        for key, (_, _, _, layers) in shape["text"].items()
    }
    options = {f"{key}_model_config": cut for key, cut in small.items()}
    options.update(dtype=torch.float32, _model_config=small.get("clip_h", {}))
    text = config.process_clip_state_dict(state)
    known = inspect.signature(comfy.sd.CLIP).parameters
    words = dict(embedding_directory=[str(base / "models" / "embeddings")], model_options=options)
    target = config.clip_target(state_dict=text)
    if "state_dict" in known:
        return model, comfy.sd.CLIP(target, state_dict=text, **words)
    clip = comfy.sd.CLIP(target, **words)
    clip.load_sd(text, full_model=True)
    return model, clip


def load_vae(vae):
    import comfy.sd

    layout = dict(
        double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 1, 1, 1],
        num_res_blocks=1, attn_resolutions=[], dropout=0.0,
    )  # fmt: skip
    state = {k: v.clone() for k, v in vae.state_dict().items()}
    config = {"params": {"ddconfig": layout, "embed_dim": 4}}
    return comfy.sd.VAE(sd=state, config=config, dtype=torch.float32)


@pytest.fixture(scope="module")
def table():
    """Eight labels in a sound encoder's space of 768, and a sound among them."""
    vectors = torch.randn(len(LABELS), 768, generator=torch.Generator().manual_seed(3))
    return LABELS, torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture(scope="module")
def pictures():
    # Reddish, greenish and bluish: something to learn. Large enough that no layer is left with one place,
    # where a group norm of two numbers is a jump, and training by rounding apart.
    noise = torch.rand(3, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    return torch.eye(3)[:, None, None] * 0.6 + noise * 0.4


@pytest.fixture(scope="module")
def trained(family, pack, table, pictures):
    """Twenty steps of one run in both engines, and what the weights were before and after."""
    training, settings = pack.part("aai.adapt.train"), pack.part("aai.adapt.settings").TrainSettings
    chosen = settings(steps=20, batch=4, rate=0.002, seed=3, validate=20)
    f_a = table[1][0] + 0.1 * table[1][1]
    images = pictures.movedim(-1, 1)
    inner = family.model.model
    modules = (inner.diffusion_model, family.clip.cond_stage_model, family.vae.first_stage_model)
    before = fingerprint(*modules)
    picture = pack.part("nodes.comfy.picture").ComfyPictureModel(family.model, family.clip, family.vae)
    with torch.inference_mode(), picture.training() as trainable:
        latents = picture.encode_images(images)
        ours = training.train_token(trainable, f_a, latents, chosen, "rain", encoded=True, table=table)
    theirs = training.train_token(family.theirs, f_a, images, chosen, "rain", table=table)
    return SimpleNamespace(
        ours=ours, theirs=theirs, latents=latents, before=before, after=fingerprint(*modules), f_a=f_a
    )


def test_the_layout_is_the_published_one(family):
    import comfy.model_detection as detection

    found = detection.detect_unet_config(family.published, "model.diffusion_model.")
    held = family.model.model.model_config.unet_config
    for key in ("context_dim", "model_channels", "channel_mult", "transformer_depth", "adm_in_channels"):
        assert found[key] == held[key], key


def test_both_engines_train_the_same_token(family, trained, pictures):
    ours, theirs = trained.ours, trained.theirs
    assert_close(trained.latents, family.theirs.encode_images(pictures.movedim(-1, 1)), atol=1e-4, rtol=1e-3)
    for key, vectors in theirs.token.vectors.items():
        assert (ours.token.vectors[key] - vectors).norm() / vectors.norm() < 1e-2, key
        assert vectors.shape == (1, {"clip_l": 768, "clip_h": 1024, "clip_g": 1280}[key])
    (_, first), (_, last) = ours.validations
    assert last < first
    assert last == pytest.approx(theirs.validations[-1][1], rel=1e-2)
    assert ours.token.provenance["base"] == {
        "SD15": "Stable Diffusion 1", "SD20": "Stable Diffusion 2", "SDXL": "Stable Diffusion XL"
    }[family.name]  # fmt: skip


def test_every_other_weight_stays_as_it_was(family, trained):
    assert trained.before == trained.after
    assert all(p.is_inference() for p in family.model.model.parameters())


def test_another_sound_enters_by_the_same_map(family, trained, table, pack, tmp_path):
    # The text encoders' words are not the table's: the sound is translated, at equal width too.
    token = trained.ours.token
    assert set(token.translation) == set(token.vectors)
    token.save(tmp_path / "t.safetensors")
    read = pack.part("aai.token").load(tmp_path / "t.safetensors")
    for key, vectors in token.vectors.items():
        assert_close(read.with_sound(trained.f_a).vectors[key], vectors, atol=1e-6, rtol=0)
        assert not torch.allclose(read.with_sound(table[1][4]).vectors[key], vectors, atol=1e-3)


def test_a_token_conditions_alike_everywhere(family, trained, comfy, run):
    import nodes

    token = trained.ours.token
    name = f"like-{family.name.lower()}"
    token.save(comfy / "models" / "embeddings" / f"{name}.safetensors")
    text = f"a photo of embedding:{name} at night"
    with torch.inference_mode():
        ((core, core_more),) = nodes.CLIPTextEncode().encode(family.clip, text)[0]
    (conditioning,) = run(
        "AAI_SoundTokenConditioning", clip=family.clip, token=token, prompt="a photo of * at night"
    )
    ours, more = conditioning[0]
    theirs, pooled = by_diffusers(family, token, "a photo of <rain> at night")
    assert_close(ours, core, atol=1e-4, rtol=0)
    assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert_close(more["pooled_output"], core_more["pooled_output"], atol=1e-4, rtol=0)
    if pooled is not None:
        assert_close(more["pooled_output"], pooled, atol=1e-4, rtol=0)
    images = []
    with torch.inference_mode():
        (negative,) = nodes.CLIPTextEncode().encode(family.clip, "")
        for positive in ([[core, core_more]], conditioning):
            latent = {"samples": torch.zeros(1, 4, 8, 8)}
            (samples,) = nodes.KSampler().sample(
                family.model, 1, 3, 5.0, "euler", "normal", positive, negative, latent
            )
            images.append(nodes.VAEDecode().decode(family.vae, samples)[0])
    assert images[0].std() > 0 and (images[0] - images[1]).abs().max() <= 2 / 255


def by_diffusers(family, token, text: str):
    """The conditioning of diffusers' pipeline that has loaded the token with load_textual_inversion."""
    import copy

    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    parts = SimpleNamespace(**vars(family.parts))
    for key in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"):
        setattr(parts, key, copy.deepcopy(getattr(parts, key)))
    scheduler = EulerDiscreteScheduler.from_config(parts.scheduler_config)
    held = dict(vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=parts.tokenizer, unet=parts.unet)
    if family.name == "SDXL":
        pipeline = StableDiffusionXLPipeline(
            **held, text_encoder_2=parts.text_encoder_2, tokenizer_2=parts.tokenizer_2, scheduler=scheduler,
            add_watermarker=False,
        )  # fmt: skip
        for key, number in (("clip_l", ""), ("clip_g", "_2")):
            pipeline.load_textual_inversion(
                token.vectors[key], token="<rain>", text_encoder=getattr(parts, f"text_encoder{number}"),
                tokenizer=getattr(parts, f"tokenizer{number}"),
            )  # fmt: skip
        cross, _, pooled, _ = pipeline.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)
        return cross, pooled
    pipeline = StableDiffusionPipeline(
        **held, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.load_textual_inversion({"<rain>": next(iter(token.vectors.values()))})
    return pipeline.encode_prompt(text, "cpu", 1, False)[0], None


@pytest.fixture(scope="module")
def inputs(pack, table, pictures):
    kind = pack.part("aai.encoders.base").SoundEmbedding
    heard = kind(table[1][0], -21.5, "rain.wav", "ear", *table, "c0ffee")
    return dict(
        embedding=heard, images=pictures, name="rain", steps=3, rate=0.01, batch=2, seed=3,
        scale="vocabulary", rho=1.0, vectors=1, template="a photo of *", size=64,
    )  # fmt: skip


def test_an_inpainting_model_trains_with_all_of_the_picture_masked(pack, comfy, comfy_path, inputs, run):
    held = build("SD15", pack, comfy, comfy_path, in_channels=9)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t, prompt = torch.tensor([20, 700]), pack.part("aai.prompt").Prompt("rain")
    picture = pack.part("nodes.comfy.picture").ComfyPictureModel(held.model, held.clip, held.vae)
    with torch.inference_mode():
        ours = picture.denoising_loss(latents, picture.encode_prompt(prompt), noise, t)
    theirs = held.theirs.denoising_loss(latents, held.theirs.encode_prompt(prompt), noise, t)
    assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    cond = held.theirs.encode_prompt(prompt)
    assert held.theirs.sample(cond, cond, seeds=[1], steps=1).shape == (1, 4, 8, 8)
    token, _ = run("AAI_TrainSoundToken", model=held.model, clip=held.clip, vae=held.vae, **inputs)
    assert token.provenance["steps"] == "3"


def test_lora_and_eight_bit_weights_are_trained_through(pack, comfy, comfy_path, inputs, run):
    held = build("SD15", pack, comfy, comfy_path, dtype=torch.float8_e4m3fn)
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    weight = held.model.model.state_dict()[key]
    assert weight.dtype == torch.float8_e4m3fn
    patched = held.model.clone()
    patched.add_patches({key: ("diff", (torch.randn(weight.shape),))})
    part, prompt = pack.part("nodes.comfy.picture").ComfyPictureModel, pack.part("aai.prompt").Prompt("rain")
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t, losses = torch.tensor([500]), {}
    for name, model in (("plain", held.model), ("patched", patched), ("again", held.model)):
        picture = part(model, held.clip, held.vae)
        with torch.inference_mode():
            losses[name] = picture.denoising_loss(latents, picture.encode_prompt(prompt), noise, t)
        if name != "again":
            before = fingerprint(model.model.diffusion_model)
            with torch.inference_mode(), picture.training() as inner:
                found = inner.denoising_loss(latents, inner.encode_prompt(prompt), noise, t)
                assert_close(found.detach(), losses[name], atol=1e-4, rtol=1e-4)
            run("AAI_TrainSoundToken", model=model, clip=held.clip, vae=held.vae, **inputs)
            assert fingerprint(model.model.diffusion_model) == before
    assert abs(losses["patched"] - losses["plain"]) > 1e-4
    assert_close(losses["again"], losses["plain"], atol=0, rtol=0)


def test_runs_in_a_row_give_their_memory_back(pack, comfy, comfy_path, inputs, run):
    held = build("SD15", pack, comfy, comfy_path)
    sizes = []
    for i in range(6):
        run(
            "AAI_TrainSoundToken", model=held.model, clip=held.clip, vae=held.vae, **inputs,
            sample_every=2, checkpointing=bool(i % 2), chunk=i % 3,
        )  # fmt: skip
        gc.collect()
        with open("/proc/self/statm", encoding="utf-8") as file:
            sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    # the heap may grow once, by a large piece; what is leaked grows with every run
    growth = sorted(later - earlier for earlier, later in pairwise(sizes))
    assert sum(growth[:-1]) < 50, sizes


def test_a_model_without_clip_gets_one_sentence(pack, run, inputs, small):
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.t5xxl = torch.nn.Module()
            self.t5xxl.transformer = torch.nn.Linear(1, 1)

    clip = small.clip.clone()
    clip.cond_stage_model = Other()
    with pytest.raises(pack.part("aai.errors").InputError, match="t5xxl"):
        pack.part("nodes.comfy.clip").encoders(clip)
