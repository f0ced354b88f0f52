"""Edits in the layouts of Stable Diffusion 2 (v-prediction, clip_h) and XL (clip_l, clip_g, pooled) at a tiny
depth, with random weights."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch

STEPS, SEED = 3, 7
WIDTHS = {"sd2": {"clip_h": 1024}, "sdxl": {"clip_l": 768, "clip_g": 1280}}
UNETS = {
    "sd2": dict(context_dim=1024, adm_in_channels=None, transformer_depth=[1, 1]),
    "sdxl": dict(context_dim=2048, adm_in_channels=2816, num_classes="sequential", transformer_depth=[0, 2]),
}


def drawn(module: torch.nn.Module, seed: int) -> None:
    """Random weights of a size that keeps activations near 1; core leaves them uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if value.ndim < 2:
            value.data.fill_(1.0 if name.endswith("weight") else 0.0)
        elif len(value) > 40000:
            # A vocabulary: words may share their vectors, and drawing them all takes seconds.
            some = 0.3 * torch.randn(997, value.shape[1], generator=generator)
            value.data.copy_(some.repeat(-(-len(value) // 997), 1)[: len(value)])
        else:
            value.data.copy_(torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5)


def unet_config(family: str) -> dict:
    depth = UNETS[family]["transformer_depth"]
    return {
        "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 64, "channel_mult": [1, 2],
        "num_res_blocks": [1, 1], "transformer_depth_middle": depth[-1],
        "transformer_depth_output": [d for d in depth for _ in range(2)], "use_spatial_transformer": True,
        "use_linear_in_transformer": True, "legacy": False, "num_heads": -1, "num_head_channels": 64,
        **UNETS[family],
    }  # fmt: skip


def build_clip(family: str):
    import comfy.sd
    import comfy.supported_models_base
    from comfy import sdxl_clip
    from comfy.text_encoders import sd2_clip

    tokenizer, model = {
        "sd2": (sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel),
        "sdxl": (sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel),
    }[family]
    small = {
        f"{name}_model_config": dict(num_hidden_layers=3, intermediate_size=64) for name in WIDTHS[family]
    }
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(tokenizer, model),
        embedding_directory=[],
        model_options={**small, "dtype": torch.float32},
    )
    drawn(clip.cond_stage_model, 1)
    return clip


def build_model(family: str):
    import comfy.model_patcher
    import comfy.supported_models

    base = {"sd2": comfy.supported_models.SD20, "sdxl": comfy.supported_models.SDXL}[family]

    class Config(base):
        def model_type(self, state_dict, prefix=""):
            from comfy.model_base import ModelType

            return ModelType.V_PREDICTION if family == "sd2" else ModelType.EPS

    model = Config(unet_config(family)).get_model({})
    drawn(model.diffusion_model, 2)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="module", params=list(WIDTHS))
def family(pack, run, request):
    """A family's model, clip and token; edit(**inputs), encoded(text), sampled(model, positive, latent)."""
    core = importlib.import_module("nodes")
    with torch.inference_mode():
        model, clip = build_model(request.param), build_clip(request.param)
    generator = torch.Generator().manual_seed(0)
    vectors = {k: 0.3 * torch.randn(1, w, generator=generator) for k, w in WIDTHS[request.param].items()}
    token = pack.part("aai.token").SoundToken("rain", vectors)

    def edit(**inputs):
        given = dict(
            model=model, clip=clip, token=token, latent=empty(), source_prompt="a city",
            edited_prompt="a city under *", scale="1", windows="as set below", cross_end=0.8, self_end=0.5,
            self_downscale=1, silence="full",
        )  # fmt: skip
        return run("AAI_PromptToPromptEdit", **{**given, **inputs})

    def encoded(text):
        with torch.inference_mode():
            return core.CLIPTextEncode().encode(clip, text)[0]

    def sampled(model, positive, latent, cfg=7.5, sampler="euler"):
        with torch.inference_mode():
            return core.common_ksampler(
                model, SEED, STEPS, cfg, sampler, "normal", positive, encoded("night"), latent
            )[0]["samples"]

    return SimpleNamespace(
        name=request.param, core=core, model=model, clip=clip, token=token, edit=edit, encoded=encoded,
        sampled=sampled,
    )  # fmt: skip


def empty():
    return {"samples": torch.zeros(1, 4, 8, 8)}


def assert_same(found, expected):
    """Relative to the latents' size, which random weights make large."""
    assert expected.isfinite().all()
    assert (found - expected).abs().max() <= 2e-3 * expected.abs().max()


def assert_other(found, expected):
    assert (found - expected).abs().max() > 1e-2 * expected.abs().max()


@pytest.mark.parametrize("cfg, sampler", [(1.0, "euler"), (7.5, "dpmpp_2m_sde")])
def test_the_source_is_as_alone_and_scale_0_returns_it(family, cfg, sampler):
    pair = family.sampled(*family.edit(), cfg, sampler)
    alone = family.sampled(family.model, family.encoded("a city"), empty(), cfg, sampler)
    assert_same(pair[:1], alone)
    assert_other(pair[1:], pair[:1])
    silent = family.sampled(*family.edit(scale="0"), cfg, sampler)
    assert_same(silent[1:], silent[:1])


def test_without_windows_the_edited_picture_is_the_plain_one(family, run):
    pair = family.sampled(*family.edit(cross_end=0.0, self_end=0.0, source_pooled=False))
    told = run("AAI_SoundTokenConditioning", clip=family.clip, token=family.token, prompt="a city under *")[0]
    assert_same(pair[1:], family.sampled(family.model, told, empty()))


def test_the_pooled_embedding_is_the_sources_or_each_its_own(family):
    if family.name != "sdxl":
        pytest.skip("only XL reads a pooled embedding")
    kept, own = family.edit(), family.edit(source_pooled=False)
    pooled = [positive[0][1]["pooled_output"] for _, positive, _ in (kept, own)]
    assert pooled[0].shape == (2, 1280) and torch.equal(*pooled[0]) and not torch.equal(*pooled[1])
    assert_other(family.sampled(*own)[1:], family.sampled(*kept)[1:])


def test_little_memory_splits_the_batch(family, monkeypatch):
    whole = family.sampled(*family.edit())
    monkeypatch.setattr(type(family.model.model), "memory_required", lambda *_, **__: 1e18)
    assert_same(family.sampled(*family.edit()), whole)


def halved(q, k, v, options):
    """Another's patch, in the way of an IP-Adapter's: attention, and something more."""
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, options["n_heads"]) + 0.1 * q


def test_others_lora_and_replace_patch_stay(family):
    state = family.model.model.state_dict()
    key = next(k for k in state if k.endswith("attn2.to_v.weight"))
    block = ("middle", 0)
    model = family.model.clone()
    lora = torch.randn(state[key].shape, generator=torch.Generator().manual_seed(1)) * 0.05
    model.add_patches({key: (lora,)})
    model.set_model_attn2_replace(halved, *block)
    pair = family.sampled(*family.edit(model=model))
    alone = family.sampled(model, family.encoded("a city"), empty())
    assert_same(pair[:1], alone)
    assert_other(alone, family.sampled(family.model, family.encoded("a city"), empty()))
    silent = family.sampled(*family.edit(model=model, scale="0"))
    assert_same(silent[1:], silent[:1])


def test_a_second_area_is_left_alone(family):
    model, positive, latent = family.edit()
    area = family.core.ConditioningSetArea().append(family.encoded("fire"), 32, 64, 0, 0, 1.0)[0]
    pair = family.sampled(model, positive + area, latent)
    assert_same(pair[:1], family.sampled(family.model, family.encoded("a city") + area, empty()))


def test_a_controlnet_steers_both(family, pack):
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = {k: v for k, v in unet_config(family.name).items() if k != "out_channels"}
    config.pop("transformer_depth_output")
    network = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, dtype=torch.float32, operations=comfy.ops.manual_cast
    )
    drawn(network, 4)
    cpu = torch.device("cpu")
    control = comfy.controlnet.ControlNet(network, load_device=cpu, manual_cast_dtype=None)
    hint = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(6))

    def steered(positive):
        with torch.inference_mode():
            return family.core.ControlNetApply().apply_controlnet(positive, control, hint, 0.3)[0]

    model, positive, latent = family.edit()
    pair = family.sampled(model, steered(positive), latent)
    alone = family.sampled(family.model, steered(family.encoded("a city")), empty())
    assert_same(pair[:1], alone)
    assert_other(alone, family.sampled(family.model, family.encoded("a city"), empty()))
    assert_other(pair[1:], pair[:1])
    hint = hint.repeat(2, 1, 1, 1)
    assert_same(family.sampled(model, steered(positive), latent), pair)
    hint[1] = 0
    with pytest.raises(pack.part("aai.errors").InputError, match="has 2 pictures, which the source"):
        family.sampled(model, steered(positive), latent)
