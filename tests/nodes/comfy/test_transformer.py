"""Transformers' attention: whose calls are taken, and whose are left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models


@pytest.fixture
def transformer(pack):
    return pack.part("nodes.comfy.transformer")


def test_wan_looks_at_its_picture_first(transformer, comfy):
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    model = WanModel(
        model_type="i2v", dim=48, ffn_dim=64, text_dim=32, num_heads=2, num_layers=2, in_dim=16, out_dim=16,
        freq_dim=32, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    tiny_models.randomize(model.requires_grad_(False), 0)
    mark, seen = transformer.Mark(), []

    def override(function, q, k, v, *rest, **named):
        seen.append((mark.take(), k.shape[1]))
        return function(q, k, v, *rest, **named)

    options = {transformer.OVERRIDE: override}
    given = torch.zeros(1, 16, 1, 8, 8), torch.ones(1), torch.zeros(1, 16, 32)
    with transformer.marked(model, transformer.attention_of(model), mark):
        model(*given, clip_fea=torch.zeros(1, 257, 1280), transformer_options=options)
    # The picture has 16 places, as many as the text.
    assert seen == [("own", 16), ("first", 257), ("cross", 16)] * 2


@pytest.mark.parametrize(
    "name, words",
    [
        ("ErnieImageModel", "Ernie-Image's attention cannot be reached"),
        ("PixArtMS", "PixArt's attention cannot be reached"),
        ("LTXAVModel", "LTX-2 rearranges"),
        ("SomethingNew", "Of SomethingNew's attention nothing is known"),
    ],
)
def test_what_no_hook_reaches_is_refused_by_name(transformer, pack, name, words):
    model = type(name, (torch.nn.Module,), {})()
    with pytest.raises(pack.part("aai.errors").InputError, match=words):
        transformer.attention_of(model)


def test_other_engines_are_refused_by_name(transformer, pack):
    model = type("Flux", (torch.nn.Module,), {"__module__": "ComfyUI-nunchaku.models"})()
    with pytest.raises(pack.part("aai.errors").InputError, match="Nunchaku models have attention"):
        transformer.attention_of(model)


def test_attention_that_does_not_ask_is_lost(transformer, pack):
    """As in a ComfyUI whose attention is not told of the options."""
    model = type("Flux", (torch.nn.Module,), {})()
    model.double_blocks = torch.nn.ModuleList([torch.nn.Identity()])
    mark = transformer.Mark()
    with transformer.marked(model, transformer.attention_of(model), mark):
        assert not mark.lost
        model.double_blocks[0](torch.ones(1))
    assert mark.lost and mark.take() is None


def test_masks_of_every_form_join_a_bias(pack):
    mask = pack.part("nodes.comfy.mask")
    padding = mask.Padding([3, 2], 3, 1, filled=False)
    bias = padding.bias(torch.zeros(1), 8, False, True, 4)
    least = torch.finfo(torch.float32).min
    assert bias.shape == (2, 1, 8) and bias[0].eq(0).all()
    assert bias[1, 0].tolist() == [0, 0, 0, least, 0, 0, 0, 0]
    last = padding.bias(torch.zeros(1), 8, False, False, 4)
    assert last[1, 0].tolist() == [0, 0, 0, 0, 0, 0, 0, least]
    q, k, v = (torch.randn(2, 2, 8, 4) for _ in range(3))
    seen = torch.rand(2, 1, 8, 8) < 0.7
    seen[..., 0] = True
    wanted = seen & (bias[:, None] == 0)
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = attend(q, k, v, attn_mask=wanted)
    scores = torch.zeros(2, 1, 8, 8).masked_fill(~seen, least)
    for given in (seen, scores, seen[:, 0], scores[:, 0]):
        joined = mask.joined(given, bias)
        joined = joined if joined.ndim == 4 else joined[:, None]
        assert_close(attend(q, k, v, attn_mask=joined), expected)
    assert mask.joined(None, bias) is bias and mask.joined(seen, None) is seen
    assert mask.of_queries(scores, slice(2, 5), 8).shape == (2, 1, 3, 8)
    assert mask.of_queries(bias, slice(2, 5), 8) is bias
    assert torch.equal(mask.of_rows(bias, [1, 1]), bias[[1, 1]])
    assert mask.Padding([3, 3], 3, 0, False).bias(q, 8, False, True, 4) is None


def test_a_compiled_model_is_edited_too(pack, run, core, comfy):
    """By a back end that compiles nothing, so that only what it captures counts."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    tiny = tiny_models.build(tiny_models.FAMILIES["Flux.1"])
    clip = pack.part("nodes.comfy.clip")
    generator = torch.Generator().manual_seed(5)
    widths = {key: clip.vocabulary(tiny.clip, key).embedding_dim for key in clip.encoders(tiny.clip)}
    vectors = {key: torch.randn(1, width, generator=generator) for key, width in widths.items()}
    token = pack.part("aai.token").SoundToken("rain", vectors)
    compiled = tiny.model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")

    def pair(model, scale):
        model, positive, latent = run(
            "AAI_PromptToPromptEdit", model=model, clip=tiny.clip, token=token, scale=scale,
            latent={"samples": torch.zeros(1, 16, 8, 8)}, source_prompt="a city", silence="full",
            edited_prompt="a city under *", windows="as set below", cross_end=0.0, self_end=0.5,
            self_downscale=4,
        )  # fmt: skip
        with torch.inference_mode():
            (made,) = core.common_ksampler(model, 7, 2, 1.0, "euler", "simple", positive, positive, latent)
        return made["samples"]

    for scale in ("1", "0.5"):
        assert_close(pair(compiled, scale), pair(tiny.model, scale), atol=1e-4, rtol=1e-4)


def test_rows_beside_a_batch(pack):
    hidden, words = pack.part("nodes.comfy.hidden"), pack.part("aai.inject.words")
    conditioning = pack.part("aai.picture.model").Conditioning
    ids, other = (1, 5, 6, 2), (1, 7, 6, 2)
    without = {ids: conditioning(torch.ones(1, 3, 2), token_ids=((1, 6, 2),))}
    plan = pack.part("aai.inject.loudness").Reweight(({},))
    part = hidden.Hidden(0, [0, 1], (ids, other), words.WordScale(("x",), (0.5,), without), plan)
    given = dict(y=torch.arange(3.0), attention_mask=torch.ones(3, 4), fps=torch.tensor(5.0))
    control = {"input": [None, torch.arange(3.0)[:, None]]}
    x, t, _, context, made, named = hidden.with_rows(
        torch.arange(3.0)[:, None], torch.zeros(3), None, torch.zeros(3, 4, 2), control, given, [part]
    )
    assert x[:, 0].tolist() == [0, 1, 2, 0, 1] and len(t) == 5 and named["y"].tolist() == [0, 1, 2, 0, 1]
    assert context[3, :, 0].tolist() == [1, 1, 1, 0] and context[[0, 1, 2, 4]].eq(0).all()
    assert named["attention_mask"][3].tolist() == [1, 1, 1, 0] and named["attention_mask"].sum() == 19
    assert made["input"][0] is None and len(made["input"][1]) == 5 and named["fps"] == 5
    assert given["attention_mask"].shape == (3, 4)
    # What Conditioning Concat has put behind the prompt keeps its place.
    behind = torch.zeros(3, 6, 2)
    behind[:, 4:] = 7
    _, _, _, context, _, _ = hidden.with_rows(x[:3], t[:3], None, behind, None, {}, [part])
    assert context[3, :, 0].tolist() == [1, 1, 1, 0, 7, 7]
    long = {ids: conditioning(torch.ones(1, 5, 2), token_ids=((1, 6, 2, 3, 4),))}
    part = hidden.Hidden(0, [0], (ids,), words.WordScale(("x",), (0.5,), long), plan)
    with pytest.raises(pack.part("aai.errors").InputError, match="more pieces than with them"):
        hidden.with_rows(x, t, None, torch.zeros(5, 4, 2), None, {}, [part])


def test_a_pooled_text_has_the_words_weight_too(pack):
    """But for an edit's, which is its source's."""
    hidden, words = pack.part("nodes.comfy.hidden"), pack.part("aai.inject.words")
    conditioning = pack.part("aai.picture.model").Conditioning
    ids, pooled = (1, 5, 6, 2), torch.full((1, 3), 4.0)
    without = {ids: conditioning(torch.ones(1, 3, 2), pooled, ((1, 6, 2),))}
    for source_pooled, wanted in ((False, [3.0, 0.0, 4.0, 0.0]), (True, [2.0, 0.0, 2.0, 0.0])):
        plan = SimpleNamespace(source_pooled=source_pooled, word_scale=lambda word, row: word.of(row))
        part = hidden.Hidden(0, [0, 1], (ids, (1, 7, 2)), words.WordScale(("x",), (0.5,), without), plan)
        given = dict(y=torch.tensor([[2.0] * 3, [0.0] * 3]))
        *_, named = hidden.with_rows(
            torch.zeros(2, 1), torch.zeros(2), None, torch.zeros(2, 4, 2), None, given, [part]
        )
        assert named["y"][:, 0].tolist() == wanted and given["y"][0, 0] == 2.0
