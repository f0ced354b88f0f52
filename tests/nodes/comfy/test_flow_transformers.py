"""Flux.1 and Z-Image through ComfyUI and through diffusers, with the same weights: a word that is trained in
one works in the other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_diffusers, tiny_models


@pytest.fixture(scope="module", params=["FLUX", "SCHNELL", "Z_IMAGE"])
def both(request, pack, comfy):
    """One family: `theirs` through ComfyUI, `ours` through diffusers."""
    try:
        tiny = tiny_models.build(getattr(tiny_diffusers, request.param))
    except tiny_models.Absent as absent:
        pytest.skip(str(absent))
    parts = {**tiny_diffusers.parts(tiny), "vae": tiny_diffusers.autoencoder()}
    return SimpleNamespace(
        ours=pack.part("aai.picture.flow_families").flow_model(parts),
        theirs=pack.part("nodes.comfy.picture").ComfyPictureModel(tiny.model, tiny.clip, None),
        latents=tiny.latents[:2],
        tiny=tiny,
    )


@pytest.fixture
def token(pack, both):
    generator = torch.Generator().manual_seed(5)
    vectors = {
        key: torch.randn(2, info.dim, generator=generator) * info.mean_norm / info.dim**0.5
        for key, info in both.ours.text_encoders.items()
    }
    return pack.part("aai.token").SoundToken("rain", vectors)


TEXTS = ("a photo of *, and again <rain> at night", "*", "rain in the city under * (it is loud)", "a dog")


def test_prompts_are_read_alike(both, pack, token):
    for text in TEXTS:
        prompt = pack.part("aai.prompt").Prompt(text, (token,) if "*" in text else ())
        # ComfyUI reads parentheses as weights.
        plain = pack.part("aai.prompt").Prompt(text.replace("(", r"\(").replace(")", r"\)"), prompt.tokens)
        with torch.inference_mode():
            ours, theirs = both.ours.encode_prompt(prompt), both.theirs.encode_prompt(plain)
        assert ours.token_ids == theirs.token_ids and ours.positions == theirs.positions
        assert_close(ours.cross, theirs.cross, atol=1e-4, rtol=1e-4)
        assert (ours.pooled is None) == (theirs.pooled is None)
        if ours.pooled is not None:
            assert_close(ours.pooled, theirs.pooled, atol=1e-4, rtol=1e-4)


def test_words_and_times_are_the_same(both):
    ours, theirs = both.ours, both.theirs
    assert ours.family == theirs.family and ours.native_size == theirs.native_size == 1024
    assert list(ours.text_encoders) == list(theirs.text_encoders)
    for key, info in ours.text_encoders.items():
        assert info.dim == theirs.text_encoders[key].dim
        assert info.mean_norm == pytest.approx(theirs.text_encoders[key].mean_norm, rel=1e-5)
    assert_close(ours.sigmas, theirs.sigmas, rtol=1e-4, atol=1e-6)
    texts = ["rain", "the sound of a dog"]
    with torch.inference_mode():
        found, wanted = ours.embed_text(texts), theirs.embed_text(texts)
    for key in found:
        assert_close(found[key], wanted[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_and_its_gradient_are_the_same(both, pack, token, checkpointing):
    prompt = pack.part("aai.prompt").Prompt("a photo of *", (token,))
    noise = torch.randn(both.latents.shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([150, 700])

    def gradients(model):
        given = {k: v.clone().requires_grad_() for k, v in token.vectors.items()}
        loss = model.denoising_loss(both.latents, model.encode_prompt(prompt, {"rain": given}), noise, t)
        return loss.detach(), torch.autograd.grad(loss, list(given.values()))

    with torch.inference_mode(), both.theirs.training() as trainable:
        wanted, slopes = gradients(trainable)
        if checkpointing:
            with both.ours.checkpointing():
                found, ours = gradients(both.ours)
        else:
            found, ours = gradients(both.ours)
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)
    for mine, other in zip(ours, slopes):
        assert other.norm() > 0
        assert (mine - other).norm() <= 1e-3 * other.norm()


def test_noise_and_pictures_are_the_same(both, pack, token):
    Prompt = pack.part("aai.prompt").Prompt
    with torch.inference_mode():
        (mine, plain), (other, theirs) = (
            [model.encode_prompt(Prompt("a photo of *", (token,))), model.encode_prompt(Prompt("a"))]
            for model in (both.ours, both.theirs)
        )
        t = torch.tensor([150, 700])
        found, wanted = (
            both.ours.predict_noise(both.latents, t, mine), both.theirs.predict_noise(both.latents, t, other)
        )  # fmt: skip
        assert_close(found, wanted, atol=1e-3, rtol=1e-3)
        both.theirs.scheduler = "simple"
        settings = dict(seeds=[5, 9], steps=3, guidance=2.0)
        drawn = both.ours.sample(mine, plain, **settings, width=16, height=24)
        theirs = both.theirs.sample(other, theirs, **settings, width=64, height=96)
    assert drawn.shape == theirs.shape == (2, 16, 12, 8)
    assert_close(drawn, theirs, atol=2e-3, rtol=2e-3)
