"""Edits and loudness in every family, through core's samplers."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

SAMPLERS = ("dpmpp_2m", "res_multistep", "er_sde", "uni_pc", "lcm")
CROSS = ("Wan 2.x", "LTX", "Cosmos", "Cosmos-Predict2")
SOURCE, EDITED = "a photo of a city", "a photo of a city under * at night"
MOVED = ("Lumina2", "Omnigen2")
ROUNDING = {"Cosmos": 1e-4, "Cosmos-Predict2": 1e-4}
"""Of latents that begin eighty times as large as others', which differ by 2e-5 at most."""


def apart(a, b):
    return (a - b).abs().max().item()


def test_the_source_is_the_plain_picture(tiny, edit, text, draw, empty):
    """Where the picture's places do not depend on how long the text is; else the next test holds."""
    if tiny.name in MOVED:
        pytest.skip("the text's length moves the picture's rotary positions")
    source, edited = draw(*edit())
    assert_close(
        source[None], draw(tiny.model, text(SOURCE), empty()), atol=ROUNDING.get(tiny.name, 2e-5), rtol=1e-5
    )
    assert apart(source, edited) > 1e-3


def test_the_source_does_not_depend_on_what_is_edited(edit, draw):
    source, edited = draw(*edit())
    other, louder = draw(*edit(scale="2", self_end=0.0, cross_end=0.0, windows="as set below"))
    assert apart(source, other) < 1e-5 * max(1.0, source.abs().max().item())
    assert apart(edited, louder) > 1e-4


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_scale_1_is_the_prompt_and_the_same_prompt_the_source(tiny, run, edit, token, draw, empty, cfg):
    nothing = dict(windows="as set below", cross_end=0.0, self_end=0.0)
    model, positive, latent = edit(**nothing)
    pair = draw(model, positive, latent, cfg=cfg)
    # The longer prompt is not padded, so that core draws it as it is.
    assert_close(draw(tiny.model, positive, latent, cfg=cfg)[1], pair[1], atol=1e-5, rtol=1e-5)
    for scale in ("0", "0.5", "1", "2"):
        same = draw(*edit(source_prompt="a photo of *", edited_prompt="a photo of *", scale=scale), cfg=cfg)
        # Cross-attention takes two calls, which round otherwise than one.
        close = 2e-5 if tiny.name in CROSS else 1e-6
        assert_close(same[1], same[0], atol=close, rtol=close)


def test_scales_are_a_way_from_the_source(tiny, edit, draw):
    """Each scale is another picture, and 1 the edit itself."""
    nothing = dict(windows="as set below", cross_end=0.0, self_end=0.0)
    source, *edited = draw(*edit(scale="0, 0.5, 1, 2", **nothing))
    assert_close(draw(*edit(**nothing))[1], edited[2], atol=ROUNDING.get(tiny.name, 2e-5), rtol=1e-5)
    distances = [apart(picture, source) for picture in edited]
    assert len({round(d, 4) for d in distances}) == 4
    literal = draw(*edit(scale="0", silence="literal", **nothing))[1]
    assert apart(literal, edited[0]) > 1e-5


def test_the_structure_is_borrowed(edit, draw):
    nothing = dict(windows="as set below", cross_end=0.0, self_end=0.0)
    source, free = draw(*edit(**nothing))
    borrowed = draw(*edit(**{**nothing, "self_end": 0.5}))
    assert_close(borrowed[0], source, atol=1e-5, rtol=1e-5)
    assert apart(borrowed[1], free) > 1e-4


def test_another_override_and_split_batches(tiny, edit, draw, monkeypatch):
    plain, calls = draw(*edit(scale="0.5")), []

    def other(function, *args, **named):
        calls.append(len(args[0]))
        return function(*args, **named)

    model = tiny.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = other
    assert_close(draw(*edit(model=model, scale="0.5")), plain, atol=ROUNDING.get(tiny.name, 2e-5), rtol=1e-5)
    assert calls
    monkeypatch.setattr(type(tiny.model.model), "memory_required", lambda *_, **__: 1e18)
    assert_close(draw(*edit(scale="0.5")), plain, atol=ROUNDING.get(tiny.name, 2e-5), rtol=1e-5)


def test_words_are_scaled_without_an_edit(tiny, run, hooked, token, draw, empty, text):
    prompt = "a photo of * in heavy rain at night"
    positive = run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt=prompt)[0]
    plain = draw(tiny.model, positive, empty())

    def scaled(scale, words="heavy, night", model=tiny.model, latent=None):
        found = run("AAI_LoudnessReweight", model=model, conditioning=positive, tokens=words, scale=scale,
                    reference=-23.0)[0]  # fmt: skip
        return draw(found, positive, latent or empty())

    assert_close(scaled("1"), plain, atol=1e-6, rtol=1e-6)
    half, none = scaled("0.5"), scaled("0")
    assert 1e-5 < apart(half, plain) < apart(none, plain)
    assert_close(scaled("0.999999"), plain, atol=1e-4, rtol=1e-4)
    both = scaled("0.5, 0", latent={**empty(2), "batch_index": [0, 0]})
    assert apart(both, torch.cat([half, none])) < 1e-5 * max(1.0, plain.abs().max().item())
    sound = scaled("0", words="rain")
    assert apart(sound, plain) > 1e-5 and apart(sound, none) > 1e-5


def test_at_weight_0_a_word_is_as_if_absent(tiny, run, hooked, token, draw, empty):
    if tiny.name in MOVED:
        pytest.skip("the text's length moves the picture's rotary positions")
    whole, shorter = (
        run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt=prompt)[0]
        for prompt in ("a photo of * in heavy rain at night", "a photo of * in rain at night")
    )
    found = run("AAI_LoudnessReweight", model=tiny.model, conditioning=whole, tokens="heavy", scale="0",
                reference=-23.0)[0]  # fmt: skip
    absent = draw(tiny.model, shorter, empty())
    close = 1e-5 * max(1.0, absent.abs().max().item())
    assert (
        apart(draw(found, whole, empty()), absent) < close < apart(draw(tiny.model, whole, empty()), absent)
    )


def test_at_weight_0_an_edit_is_that_of_the_prompt_without_the_word(tiny, run, edit, draw):
    if tiny.name in MOVED:
        pytest.skip("the text's length moves the picture's rotary positions")
    whole = EDITED
    for silence, scale in (("full", "1.4"), ("literal", "0.3")):
        model, positive, latent = edit(scale=scale, silence=silence)
        given = dict(model=model, conditioning=positive, tokens="night", reference=-23.0)
        found = draw(run("AAI_LoudnessReweight", **given, scale="0")[0], positive, latent)
        wanted = draw(*edit(scale=scale, silence=silence, edited_prompt=whole.replace(" night", "")))
        close = 2e-5 * max(1.0, wanted.abs().max().item())
        assert apart(found, wanted) < close < apart(found[1], draw(model, positive, latent)[1])


def test_words_are_scaled_in_an_edit(tiny, run, edit, draw):
    model, positive, latent = edit(scale="0.5")
    plain = draw(model, positive, latent)
    given = dict(model=model, conditioning=positive, tokens="night", reference=-23.0)
    found = draw(run("AAI_LoudnessReweight", **given, scale="0.3")[0], positive, latent)
    assert apart(found[0], plain[0]) < 1e-5 * max(1.0, plain.abs().max().item())
    assert apart(found[1], plain[1]) > 1e-5
    unchanged = draw(run("AAI_LoudnessReweight", **given, scale="1")[0], positive, latent)
    assert_close(unchanged, plain, atol=1e-6, rtol=1e-6)


def test_a_heat_map_is_what_materialised_maps_say_and_leaves_the_picture(
    tiny, run, edit, draw, pack, monkeypatch
):
    """The maps of a marked call's own queries and keys, with the softmax written out."""
    plan, seen = pack.part("nodes.comfy.plan"), []
    model, positive, latent = edit(self_end=0.0, cross_end=0.0, windows="as set below")
    plain = draw(model, positive, latent, cfg=1.0)
    watched, maps = run("AAI_AttentionHeatmap", model=model, conditioning=positive)

    def materialised(q, k, v, mask):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        scores = scores if mask is None else (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )  # fmt: skip
        seen.append(k.shape[-2])
        return scores.softmax(-1) @ v

    found = draw(watched, positive, latent, cfg=1.0)
    assert torch.equal(found, plain)
    ours, shares = maps.maps(), maps.shares()
    frames = latent["samples"].shape[2] if latent["samples"].ndim == 5 else 1
    assert ours.shape[:2] == (1, 2 * frames) and maps.pictures == 2
    # The source's prompt has no sound.
    assert ours[0, :frames].max() == 0 and 0 < shares[0, 1] < 1 and ours[0, frames:].min() > 0
    assert ours[0, frames:].mean().item() == pytest.approx(1.0, abs=1e-4)
    monkeypatch.setattr(plan, "scaled_dot_product_attention", materialised)
    draw(watched, positive, latent, cfg=1.0)
    assert seen and torch.allclose(maps.maps(), ours, atol=1e-5)


def test_a_film_has_a_heat_map_for_each_frame(tiny, run, token, draw):
    shape = tiny.latents.shape[1:]
    if len(shape) < 4 or tiny.name == "Qwen-Image" or not tiny.widths:
        pytest.skip("draws no film")
    positive = run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt="a photo of *")[0]
    watched, maps = run("AAI_AttentionHeatmap", model=tiny.model, conditioning=positive)
    draw(watched, positive, {"samples": torch.zeros(1, shape[0], 3, *shape[2:])})
    found = maps.maps()
    assert found.shape[:2] == (1, 3) and found.mean().item() == pytest.approx(1.0, abs=1e-4)
    assert not torch.allclose(found[0, 0], found[0, 1], atol=1e-4)
    images = torch.rand(9, 16, 16, 3)
    overlays, mask = run("AAI_DrawHeatmap", maps=maps, images=images, opacity=0.5)
    assert (
        overlays.shape == images.shape and torch.equal(mask[1], mask[4]) and not torch.equal(mask[4], mask[5])
    )


def test_a_mask_and_changes_blend(edit, draw):
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    source, edited = draw(*edit(mask=mask))
    half = source.shape[-1] // 2
    assert torch.equal(edited[..., :half], source[..., :half])
    assert apart(edited[..., half:], source[..., half:]) > 1e-3
    nowhere = draw(*edit(blend_changes=True, blend_start=0.0, blend_threshold=1.0))
    assert torch.equal(nowhere[0], nowhere[1])


@pytest.mark.all
def test_the_samplers_share_their_noise(tiny, edit, text, draw, empty):
    if tiny.name not in ("Z-Image", "Flux.1", "Qwen-Image", "Wan 2.x"):
        pytest.skip("in four families")
    for sampler in SAMPLERS:
        for cfg in (1.0, 4.0):
            source, edited = draw(*edit(), sampler, cfg)
            alone = draw(tiny.model, text(SOURCE), empty(), sampler, cfg)
            close = 1e-5 * max(1.0, alone.abs().max().item())
            assert apart(source[None], alone) < close, (sampler, cfg)
            assert apart(source, edited) > 1e-3, sampler


def test_what_does_not_go_says_so(tiny, edit, run, pack):
    refused = pack.part("aai.errors").InputError
    with pytest.raises(refused, match="leave blend_words empty"):
        edit(blend_words="*")
    model, positive, latent = edit()
    with pytest.raises(refused, match="nor the word 'sea'"):
        run("AAI_LoudnessReweight", model=model, conditioning=positive, tokens="sea", scale="1",
            reference=-23.0)  # fmt: skip
