"""Texts and pictures that stand behind other things in a transformer's sequence."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models

HUNYUAN, WAN = (tiny_models.FAMILIES[name] for name in ("HunyuanVideo", "Wan 2.x"))
FAMILIES = {
    "HunyuanVideo 1.5": replace(
        HUNYUAN,
        config="HunyuanVideo15",
        latent=(32, 1, 8, 8),
        unet={
            **HUNYUAN.unet, "in_channels": 65, "out_channels": 32, "vec_in_dim": None,
            "guidance_embed": False, "vision_in_dim": 32, "use_cond_type_embedding": True,
        },
    ),
    "Wan with a reference": replace(WAN, unet={**WAN.unet, "in_dim_ref_conv": 16}),
    "HunyuanVideo": HUNYUAN,
    **{name: tiny_models.FAMILIES[name] for name in ("Omnigen2", "Z-Image", "Flux.1")},
}  # fmt: skip
NOTHING = dict(windows="as set below", cross_end=0.0, self_end=0.0)


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request, hold):
    held = hold(tiny_models.build, FAMILIES[request.param])
    held.name = request.param
    return held


@pytest.fixture
def put(comfy):
    """put(conditioning, key=value) -> it with more in its options."""
    import node_helpers

    return lambda conditioning, **values: node_helpers.conditioning_set_values(conditioning, values)


def apart(a, b):
    return (a - b).abs().max().item()


def drawn(*shape, seed=9):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_first_picture_stands_in_front_of_the_text(family, put, edit, draw, empty, text, run, token):
    tiny = family("HunyuanVideo 1.5")
    vision = SimpleNamespace(last_hidden_state=drawn(1, 20, 32))

    def seeing(conditioning):
        return put(conditioning, clip_vision_output=vision)

    model, positive, latent = edit(scale="0, 1", **NOTHING)
    source, silent, edited = draw(model, seeing(positive), latent)
    plain = draw(tiny.model, seeing(text("a photo of a city")), empty())[0]
    assert apart(plain, draw(tiny.model, text("a photo of a city"), empty())[0]) > 1e-3
    assert_close(source, plain, atol=2e-5, rtol=1e-5)
    assert_close(silent, source, atol=2e-5, rtol=2e-5)
    assert apart(edited, source) > 1e-3
    whole, shorter = (
        seeing(run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt=prompt)[0])
        for prompt in ("a photo of * in heavy rain", "a photo of * in rain")
    )
    given = dict(conditioning=whole, tokens="heavy", scale="0", reference=-23.0)
    found = draw(run("AAI_LoudnessReweight", model=tiny.model, **given)[0], whole, empty())
    absent = draw(tiny.model, shorter, empty())
    assert apart(found, absent) < 1e-5 * max(1.0, absent.abs().max().item())


def test_texts_of_references_in_front_of_the_prompt_are_refused(family, put, edit, draw, pack):
    tiny = family("Z-Image")
    model, positive, latent = edit()
    referring = put(positive, reference_latents=[drawn(1, *tiny.latents.shape[1:])])
    with pytest.raises(pack.part("aai.errors").InputError, match="take the reference latents off"):
        draw(model, referring, latent)


def test_a_heat_map_is_of_the_picture_s_own_places(
    tiny, put, run, token, empty, text, core, pack, monkeypatch
):
    """References stand in front of them, or behind (Flux)."""
    width, side, count = tiny.latents.shape[1], 8, 3 if tiny.name.startswith("Wan") else 1
    places = count * (side // 2) ** 2
    reference = drawn(1, width, *[1] * (tiny.latents.ndim - 4), 8, 6 if tiny.name == "Omnigen2" else 8)
    given = {"Z-Image": {}, "HunyuanVideo 1.5": {}, "HunyuanVideo": {"ref_latent": reference}}
    given = given.get(tiny.name, {"reference_latents": [reference]})
    positive = run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt="a photo of *")[0]
    model, maps = run("AAI_AttentionHeatmap", model=tiny.model, conditioning=positive)
    model, asked, seen = model.clone(), [], []

    def recorded(function, q, k, v, heads, *rest, **named):
        asked.append(q if named.get("skip_reshape") else q.unflatten(-1, (heads, -1)).movedim(-2, 1))
        return function(q, k, v, heads, *rest, **named)

    heatmap = pack.part("aai.inject.heatmap").Heatmap
    observe = heatmap.observe_patches

    def observed(self, attend, q, *rest):
        seen.append(q)
        return observe(self, attend, q, *rest)

    monkeypatch.setattr(heatmap, "observe_patches", observed)
    model.model_options["transformer_options"]["optimized_attention_override"] = recorded
    shape = list(empty()["samples"].shape)
    if count > 1:
        shape[2] = count
    positive, negative = put(positive, **given), put(text("blurry"), **given)
    with torch.inference_mode():
        core.common_ksampler(
            model, 7, 1, 1.0, "euler", "simple", positive, negative, {"samples": torch.zeros(shape)}
        )
    assert seen and maps.maps().mean().item() == pytest.approx(1.0, abs=1e-4)
    # Behind the picture Flux has its reference, and Z-Image fills up to 32 places.
    behind = {"Flux.1": places, "Z-Image": 32 - places}.get(tiny.name, 0)
    assert {q.shape[-2] for q in seen} == {places + behind}
    for q in seen:
        assert any(torch.equal(whole[..., -q.shape[-2] :, :], q) for whole in asked)
