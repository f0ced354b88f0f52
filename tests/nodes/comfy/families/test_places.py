"""Texts and pictures that stand behind other things in a transformer's sequence."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models

HUNYUAN = tiny_models.FAMILIES["HunyuanVideo"]
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
    "Z-Image": tiny_models.FAMILIES["Z-Image"],
}  # fmt: skip
NOTHING = dict(windows="as set below", cross_end=0.0, self_end=0.0)


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request, pack, comfy):
    try:
        held = tiny_models.build(FAMILIES[request.param])
    except tiny_models.Absent as absent:
        pytest.skip(str(absent))
    clip = pack.part("nodes.comfy.clip")
    widths = {key: clip.vocabulary(held.clip, key).embedding_dim for key in clip.encoders(held.clip)}
    return SimpleNamespace(
        name=request.param, model=held.model, clip=held.clip, latents=held.latents, widths=widths
    )


@pytest.fixture
def family(tiny):
    """family("Z-Image") skips the others."""

    def only(*names):
        if tiny.name not in names:
            pytest.skip(f"tried on {' and '.join(names)}")
        return tiny

    return only


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
