"""Edits through diffusers' U-Nets: pairs of a source and its edited pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.inject.edit import Edit, blended, encode
from aai.inject.loudness import Reweight
from aai.inject.words import WordScale
from aai.picture.attention import injecting
from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt


@pytest.fixture
def model(make_parts):
    return DiffusersPictureModel(**vars(make_parts()))


@pytest.fixture
def edit_of(make_token):
    def make(text="a photo of rain under *", source="a photo of rain", scale=1.0, **settings):
        token = make_token("dog")
        settings = {"self_downscale": 1, **settings}
        return Edit(Prompt(source, (token,)), (Prompt(text, (token,)),), scales=({"dog": scale},), **settings)

    return make


def drawn(model, edit, seeds=(3,), guidance=4.0):
    uncond = model.encode_prompt(Prompt(""))
    with torch.no_grad():
        cond = encode(model.encode_prompt, edit)
        return model.sample(cond, uncond, seeds=list(seeds), steps=4, guidance=guidance, edit=edit)


def plain(model, prompt, seeds=(3,), guidance=4.0, edit=None):
    with torch.no_grad():
        cond, uncond = model.encode_prompt(prompt), model.encode_prompt(Prompt(""))
        return model.sample(cond, uncond, seeds=list(seeds), steps=4, guidance=guidance, edit=edit)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_source_of_a_pair_is_the_picture_drawn_alone(model, edit_of, guidance):
    edit = edit_of()
    source, edited = drawn(model, edit, guidance=guidance)
    alone = plain(model, edit.source, guidance=guidance)[0]
    assert_close(source, alone, rtol=0, atol=1e-4)
    assert (edited - source).abs().mean() > 1e-3
    assert (edited - plain(model, edit.edited[0], guidance=guidance)[0]).abs().mean() > 1e-3


def test_without_windows_the_edited_picture_is_the_plain_one(model, edit_of):
    edit = edit_of(cross_window=(0, 0), self_window=(0, 0))
    edited = drawn(model, edit)[1]
    assert_close(edited, plain(model, edit.edited[0])[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"cross_window": (0, 0), "self_window": (0, 0)}])
def test_scale_0_returns_the_source_picture(model, edit_of, settings):
    source, edited = drawn(model, edit_of(scale=0.0, **settings))
    assert_close(edited, source, rtol=0, atol=1e-5)


def test_an_edit_to_the_same_prompt_returns_the_source_picture(model, edit_of):
    source, edited = drawn(model, edit_of(text="a photo of *", source="a photo of *"))
    assert_close(edited, source, rtol=0, atol=1e-5)


def test_every_seed_is_a_pair_of_its_own(model, edit_of):
    both = drawn(model, edit_of(), seeds=(3, 4))
    assert_close(both[2:], drawn(model, edit_of(), seeds=(4,)), rtol=0, atol=1e-4)


def test_self_attention_is_borrowed_in_coarse_layers_only(model, edit_of):
    """At a latent of 8x8 and layers of 8x8 and 4x4, no layer is 4 times coarser."""
    fine = drawn(model, edit_of(self_downscale=4, self_window=(0, 1)))
    none = drawn(model, edit_of(self_window=(0, 0)))
    assert torch.equal(fine, none)
    assert not torch.allclose(fine, drawn(model, edit_of(self_window=(0, 1))), atol=1e-3)


def test_the_processors_come_back(model, edit_of):
    before = model.unet.attn_processors
    drawn(model, edit_of())
    with pytest.raises(KeyboardInterrupt), injecting(model.unet, edit_of().begin((4, 8, 8), 4, 7.5)):
        assert model.unet.attn_processors != before
        raise KeyboardInterrupt
    assert model.unet.attn_processors == before


def test_an_ip_adapter_is_not_pushed_aside(model, edit_of):
    class IPAdapterAttnProcessor:
        pass

    model.unet.set_attn_processor(IPAdapterAttnProcessor())
    with (
        pytest.raises(InputError, match="IPAdapterAttnProcessor"),
        injecting(model.unet, edit_of().begin((4, 8, 8), 4, 7.5)),
    ):
        pass


def test_loudness_without_an_edit(model, make_token):
    prompt = Prompt("a photo of *", (make_token("dog"),))
    assert_close(
        plain(model, prompt, edit=Reweight(({"dog": 1.0},))), plain(model, prompt), rtol=0, atol=1e-5
    )
    each = plain(model, prompt, edit=Reweight(({"dog": 0.0}, {"dog": 1.0}, {"dog": 2.0})))
    assert_close(each[1], plain(model, prompt)[0], rtol=0, atol=1e-4)
    assert_close(each[2], plain(model, prompt, edit=Reweight(({"dog": 2.0},)))[0], rtol=0, atol=1e-4)
    assert (each[0] - each[2]).abs().mean() > 1e-3


def test_words_weights_are_refused(model, edit_of):
    edit = edit_of()
    without = {model.encode_prompt(edit.edited[0]).token_ids[0]: model.encode_prompt(Prompt("a photo"))}
    with pytest.raises(InputError, match="weight of 'rain' does nothing in a U-Net"):
        drawn(model, replace(edit, words=(WordScale(("rain",), (0.5,), without),)))
    untouched = replace(edit, words=(WordScale(("rain",), (1.0,), without),))
    assert torch.equal(drawn(model, untouched), drawn(model, edit))


def test_a_conditioning_of_another_edit_is_refused(model, edit_of):
    with pytest.raises(InputError, match="has 2 pictures, but the conditioning has 1"):
        plain(model, Prompt("a photo of rain"), edit=edit_of())


def test_a_mask_keeps_the_source_outside(model, edit_of):
    mask = torch.zeros(16, 16)
    mask[:, 8:] = 1
    plain = drawn(model, edit_of())
    source, edited = drawn(model, blended(edit_of(), model.encode_prompt, mask=mask))
    assert_close(source, plain[0], rtol=0, atol=1e-5)
    assert torch.equal(edited[..., :4], source[..., :4])
    assert not torch.allclose(edited[..., 4:], source[..., 4:], atol=1e-3)


def test_words_decide_where_the_picture_changes(model, edit_of):
    """From the first step on, words that look everywhere change everything, and a threshold of 1 nothing."""
    edit = blended(edit_of(), model.encode_prompt, "*, rain")
    assert edit.blend.words[0] and len(edit.blend.words[1]) == 2
    everywhere = replace(edit, blend=replace(edit.blend, start=0.0, threshold=0.0))
    assert_close(drawn(model, everywhere), drawn(model, edit_of()), rtol=0, atol=1e-5)
    nowhere = replace(edit, blend=replace(edit.blend, start=0.0, threshold=1.0))
    source, edited = drawn(model, nowhere)
    assert_close(edited, source, rtol=0, atol=1e-5)


def test_a_blend_word_that_is_not_in_the_prompts_is_named(model, edit_of):
    with pytest.raises(InputError, match="'fire' is not in the prompt"):
        blended(edit_of(), model.encode_prompt, "fire")


@pytest.mark.parametrize("source_pooled", [True, False])
def test_sdxl_edits_keep_the_sources_pooled_embedding(make_sdxl_parts, make_token, source_pooled):
    model = DiffusersPictureModel(**vars(make_sdxl_parts()))
    token = make_token("dog")
    token.vectors["clip_g"] = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)) * 0.05
    edit = Edit(
        Prompt("a photo of rain", (token,)),
        (Prompt("a photo of rain under *", (token,)),),
        self_downscale=1,
        source_pooled=source_pooled,
    )
    with torch.no_grad():
        cond = encode(model.encode_prompt, edit)
    assert cond.cross.shape == (2, 77, 96) and torch.equal(*cond.pooled) == source_pooled
    source, edited = drawn(model, edit)
    assert_close(source, plain(model, edit.source)[0], rtol=0, atol=1e-4)
    assert (edited - source).abs().mean() > 1e-3
    silent = drawn(model, replace(edit, scales=({"dog": 0.0},), source_pooled=True))
    assert_close(silent[1], silent[0], rtol=0, atol=1e-5)
