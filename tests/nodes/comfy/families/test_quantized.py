"""Models in fewer bits, as most people run today's: words, training, edits and words' weights."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models

FAMILIES = ("Z-Image", "Qwen-Image", "Flux.1", "Wan 2.x")


@pytest.fixture(scope="module", params=("fp8", *tiny_models.KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request, kind, hold):
    """As the families' own, in fewer bits."""
    held = hold(tiny_models.build_quantized, tiny_models.FAMILIES[request.param], kind)
    held.name = request.param
    for module in (held.model.model.diffusion_model, held.clip.cond_stage_model):
        small = [p for p in module.parameters() if p.dtype.itemsize == 1 or hasattr(p, "__tensor_flatten__")]
        assert len(small) > 10
    return held


def contents(*modules: torch.nn.Module) -> str:
    """Every bit of the modules' weights and buffers."""
    digest = hashlib.sha256()

    def feed(value: torch.Tensor) -> None:
        if hasattr(value, "__tensor_flatten__"):
            for name in value.__tensor_flatten__()[0]:
                feed(getattr(value, name))
        else:
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())

    for module in modules:
        for value in (*module.parameters(), *module.buffers()):
            feed(value)
    return digest.hexdigest()


@pytest.fixture
def train(pack, table):
    """train(held, checkpointing) -> the result of a few steps on a family's MODEL and CLIP."""

    def run(held, checkpointing):
        picture = pack.part("nodes.comfy.picture").ComfyPictureModel(held.model, held.clip, None)
        settings = pack.part("aai.adapt.settings").TrainSettings(
            steps=12, batch=4, seed=3, checkpointing=checkpointing, validate=12, rho=None
        )
        with torch.inference_mode(), picture.training() as trainable:
            return pack.part("aai.adapt.train").train_token(
                trainable, table[1][0] + 0.1 * table[1][1], held.latents, settings, "rain", encoded=True,
                table=table,
            )  # fmt: skip

    return run


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_word_is_trained_and_the_weights_stay(tiny, train, checkpointing):
    modules = tiny.model.model.diffusion_model, tiny.clip.cond_stage_model
    before = contents(*modules)
    result = train(tiny, checkpointing)
    (_, first), (_, last) = result.validations
    assert last < first
    assert contents(*modules) == before
    assert all(p.is_inference() for module in modules for p in module.parameters())
    assert {k: v.shape[1] for k, v in result.token.vectors.items()} == tiny.widths


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_word_is_trained_through_products_in_fp8(pack, comfy, train, monkeypatch, checkpointing):
    """As on a GPU that has them, where core's own function carries the gradient past the layers."""
    import comfy.model_management
    import comfy.ops

    if not hasattr(comfy.ops, "QuantLinearFunc"):
        pytest.skip("this ComfyUI trains through no products of few bits")
    monkeypatch.setattr(comfy.model_management, "supports_fp8_compute", lambda *_, **__: True)
    passed, forward = [], comfy.ops.QuantLinearFunc.forward

    def counted(ctx, *given):
        passed.append(1)
        return forward(ctx, *given)

    monkeypatch.setattr(comfy.ops.QuantLinearFunc, "forward", staticmethod(counted))
    held = tiny_models.build_quantized(tiny_models.FAMILIES["Flux.1"], "fp8 with scales")
    (_, first), (_, last) = train(held, checkpointing).validations
    assert last < first and passed


def test_an_edit_keeps_its_source_and_changes_by_its_scale(tiny, edit, draw, text, empty):
    model, positive, latent = edit(scale="0, 1")
    source, none, edited = draw(model, positive, latent)
    assert_close(none, source, atol=1e-4, rtol=1e-4)
    plain = draw(tiny.model, text("a photo of a city"), empty())
    if tiny.name != "Z-Image":  # Its picture's place depends on how long the text is.
        assert_close(source[None], plain, atol=1e-3, rtol=1e-3)
    assert (edited - source).abs().max() > 1e-3


def test_a_word_of_weight_0_is_not_there_and_its_map_is_drawn(tiny, run, token, draw, empty):
    told, without = (
        run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt=prompt)[0]
        for prompt in ("a photo of * in heavy rain", "a photo of * in rain")
    )
    given = dict(conditioning=told, tokens="heavy", reference=-23.0)
    none, one = (
        run("AAI_LoudnessReweight", model=tiny.model, scale=scale, **given)[0] for scale in ("0", "1")
    )
    plain = draw(tiny.model, told, empty())
    assert_close(draw(one, told, empty()), plain, atol=1e-3, rtol=1e-3)
    weighed = draw(none, told, empty())
    assert (weighed - plain).abs().max() > 1e-3
    assert_close(weighed, draw(tiny.model, without, empty()), atol=1e-2, rtol=1e-2)
    watched, maps = run("AAI_AttentionHeatmap", model=tiny.model, conditioning=told)
    draw(watched, told, empty())
    image, mask = run("AAI_DrawHeatmap", maps=maps, images=torch.zeros(1, 64, 64, 3), opacity=0.5)
    assert mask.isfinite().all() and mask.max() > 0
