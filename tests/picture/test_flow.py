"""FlowPictureModel against diffusers' own pipelines on the same random weights."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.picture.flow_families import flow_model
from aai.prompt import Prompt
from aai.token import SoundToken


@pytest.fixture(params=["flux", "schnell", "z_image"])
def pipeline(request, make_flux, make_z_image):
    make = {"flux": make_flux, "schnell": lambda: make_flux(False), "z_image": make_z_image}[request.param]
    made = make()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def model(pipeline):
    return flow_model(pipeline.components)


@pytest.fixture
def token(model):
    generator = torch.Generator().manual_seed(3)
    return SoundToken(
        "rain", {k: torch.randn(2, i.dim, generator=generator) for k, i in model.text_encoders.items()}
    )


def test_prompts_are_encoded_as_the_pipeline_does(pipeline, model):
    for text in ("a photo of rain in the city", ""):
        found = model.encode_prompt(Prompt(text))
        if model.family == "ZImage":
            (cross,), _ = pipeline.encode_prompt(text, "cpu", do_classifier_free_guidance=False)
            assert found.pooled is None
            assert_close(found.cross[0], cross)
            continue
        cross, pooled, _ = pipeline.encode_prompt(text, device="cpu", max_sequence_length=256)
        assert_close(found.cross, cross)
        assert_close(found.pooled, pooled)


def test_a_words_own_rows_are_the_word(model, token):
    """At the places that the conditioning says, and with the space that stands before it."""
    rows = {}
    for key, encoder in model._text_encoders.items():
        whole = encoder.layout(Prompt("a photo of rain at night"), key).ids
        without = encoder.layout(Prompt("a photo of at night"), key).ids
        first = next(i for i, (a, b) in enumerate(zip(whole, without)) if a != b)
        rows[key] = encoder.vocabulary.weight[whole[first]][None].detach()
    word = SoundToken("rain", rows)
    found = model.encode_prompt(Prompt("a photo of * at night", (word,)))
    wanted = model.encode_prompt(Prompt("a photo of rain at night"))
    assert_close(found.cross, wanted.cross)
    assert wanted.pooled is None or torch.allclose(found.pooled, wanted.pooled, atol=1e-5)
    (place,) = found.positions["rain"]
    assert len(found.token_ids[0]) == found.cross.shape[1]
    mine, theirs = (list(cond.token_ids[0]) for cond in (found, wanted))
    assert mine[:place] + mine[place + 1 :] == theirs[:place] + theirs[place + 1 :]
    # Another word changes what stands before it in an encoder that reads both ways, and only there.
    other = SoundToken("rain", {k: -v for k, v in rows.items()})
    before = model.encode_prompt(Prompt("a photo of * at night", (other,))).cross[:, :place]
    assert torch.equal(before, found.cross[:, :place]) == (model.family == "ZImage")


def test_vectors_stand_in_for_the_tokens_own(model, token):
    prompt = Prompt("a photo of *, and <rain>", (token,))
    others = {key: -rows for key, rows in token.vectors.items()}
    meant = Prompt("a photo of *, and <rain>", (SoundToken("rain", others),))
    found = model.encode_prompt(prompt, {"rain": others})
    assert torch.equal(found.cross, model.encode_prompt(meant).cross)
    assert len(found.positions["rain"]) == 4


def test_sampling_is_the_pipelines(pipeline, model):
    cond, uncond = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt("night"))
    noise = model.first_noise([11], 8, 12, 16)
    found = model.sample(cond, uncond, seeds=[11], steps=4, guidance=2.5, width=24, height=16)
    given = dict(num_inference_steps=4, height=16, width=24, output_type="latent", negative_prompt="night")
    if model.family == "ZImage":
        # Its guidance counts from the prompt's own prediction on.
        wanted = pipeline("a photo of rain", **given, guidance_scale=1.5, latents=noise).images
    else:
        # The pipeline's shift follows the size; here it is that of the largest.
        pipeline.scheduler.register_to_config(base_shift=1.15)
        packed = pipeline._pack_latents(noise, 1, 16, 8, 12)
        guided = dict(guidance_scale=3.5, true_cfg_scale=2.5, max_sequence_length=256)
        wanted = pipeline("a photo of rain", **given, **guided, latents=packed).images
        wanted = pipeline._unpack_latents(wanted, 16, 24, 2)
    assert found.std() > 0.5
    assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_each_seed_is_its_own_picture_and_reports(model):
    cond, uncond = model.encode_prompt(Prompt("rain")), model.encode_prompt(Prompt(""))
    settings = dict(steps=3, guidance=2.0, width=19, height=12)
    state, seen = torch.get_rng_state(), []
    pair = model.sample(
        cond, uncond, seeds=[5, 9], callback=lambda i, n, x: seen.append((i, n, x.shape)), **settings
    )
    assert seen == [(i, 3, pair.shape) for i in (1, 2, 3)] and pair.shape == (2, 16, 6, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert_close(pair[1:], model.sample(cond, uncond, seeds=[9], **settings), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(pair[0], pair[1], atol=0.1)
    with pytest.raises(InputError, match="0 steps"):
        model.sample(cond, uncond, seeds=[1], steps=0)


def test_loss_and_noise_by_the_book(model):
    """x = (1 - s) x0 + s n, v = n - x0, and s is the scheduler's shift of (t + 0.5) / 1000."""
    cond = model.encode_prompt(Prompt("a photo of rain"))
    latents, noise = torch.randn(2, 2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    t, shift = torch.tensor([60, 700]), {"Flux": 3.1582, "FluxSchnell": 1.0, "ZImage": 3.0}[model.family]
    errors = []
    for i in range(2):
        u = (int(t[i]) + 0.5) / 1000
        s = shift * u / (1 + (shift - 1) * u)
        x = (1 - s) * latents[i : i + 1] + s * noise[i : i + 1]
        with torch.no_grad():
            v = model.velocity.predict(x, torch.tensor([s]), cond.cross, cond.pooled)
        errors.append(float((v - noise[i] + latents[i]).square().mean()))
        length = (s**2 + (1 - s) ** 2) ** 0.5
        found = model.predict_noise(x / length, t[i : i + 1], cond)
        assert_close(found, x + (1 - s) * v, atol=1e-3, rtol=1e-3)
        assert float(model.sigmas[t[i]]) == pytest.approx(s / (1 - s), rel=1e-4)
    loss = model.denoising_loss(latents, cond, noise, t)
    assert float(loss) == pytest.approx(sum(errors) / 2, rel=1e-4)
    assert model.sigmas.shape == (1000,) and (model.sigmas.diff() > 0).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_is_differentiable_in_the_vectors(model, token, checkpointing):
    prompt = Prompt("a photo of *", (token,))
    latents, noise = torch.randn(2, 2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    vectors = {key: rows.clone().requires_grad_() for key, rows in token.vectors.items()}

    def loss(shift=0.0, slopes=None):
        moved = {k: v if slopes is None else v + shift * slopes[k] for k, v in vectors.items()}
        cond = model.encode_prompt(prompt, {"rain": moved})
        return model.denoising_loss(latents, cond, noise, torch.tensor([100, 700]))

    if checkpointing:
        with model.checkpointing():
            gradients = torch.autograd.grad(loss(), list(vectors.values()))
        assert not any("forward" in vars(m) for m in model.denoiser.modules())
    else:
        gradients = torch.autograd.grad(loss(), list(vectors.values()))
    assert all((g.norm(dim=1) > 0).all() for g in gradients)
    size = torch.cat([g.flatten() for g in gradients]).norm()
    slopes = {key: g / size for key, g in zip(vectors, gradients)}
    with torch.no_grad():
        slope = (loss(0.05, slopes) - loss(-0.05, slopes)) / 0.1
    assert_close(slope, size, rtol=0.1, atol=1e-6)
    assert not any(p.requires_grad for p in model.denoiser.parameters())


def test_pictures_to_latents_and_back(model, pipeline):
    images, vae = torch.rand(2, 3, 19, 25, generator=torch.Generator().manual_seed(0)), pipeline.vae
    latents = model.encode_images(images)
    with torch.no_grad():
        mean = vae.encode(images[..., :16, :24] * 2 - 1).latent_dist.mean
        picture = vae.decode(latents / 0.3611 + 0.1159).sample / 2 + 0.5
    assert_close(latents, (mean - 0.1159) * 0.3611)
    assert latents.shape == (2, 16, 8, 12) and latents.dtype == torch.float32
    assert_close(model.decode(latents), picture.clamp(0, 1))
    with pytest.raises(InputError, match="take 4 or more"):
        model.encode_images(torch.rand(1, 3, 9, 3))


def test_float16_is_bfloat16_and_the_autoencoder_float32(model, token):
    model.to(torch.device("cpu"), torch.float16)
    towers = [t.model for t in model._text_encoders.values()]
    assert {p.dtype for m in (model.denoiser, *towers) for p in m.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.vae.parameters()} == {torch.float32}
    cond, uncond = model.encode_prompt(Prompt("*", (token,))), model.encode_prompt(Prompt(""))
    drawn = model.sample(cond, uncond, seeds=[1], steps=2, guidance=2.0, width=16, height=16)
    assert drawn.dtype == torch.float32 and torch.isfinite(model.decode(drawn)).all()
    loss = model.denoising_loss(drawn, cond, torch.randn_like(drawn), torch.tensor([500]))
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_a_token_may_lack_the_encoder_that_is_only_pooled(model, token):
    if "clip_l" not in model.text_encoders:
        pytest.skip("Z-Image has one text encoder")
    words = SoundToken("rain", {"t5xxl": token.vectors["t5xxl"]})
    found = model.encode_prompt(Prompt("a photo of *", (words,)))
    assert len(found.positions["rain"]) == 2
    assert_close(found.pooled, model.encode_prompt(Prompt("a photo of ")).pooled)
    # And where it stands behind what CLIP reads, T5 reads it all the same.
    long = model.encode_prompt(Prompt("city " * 90 + "*", (token,)))
    assert len(long.positions["rain"]) == 2
    with pytest.raises(InputError, match="'rain' was made for clip_l, but this model reads t5xxl"):
        model.encode_prompt(Prompt("*", (SoundToken("rain", {"clip_l": token.vectors["clip_l"]}),)))


def test_what_does_not_fit_is_refused(model, token):
    key = list(token.vectors)[-1]
    wide = SoundToken("rain", {**token.vectors, key: torch.randn(2, 40)})
    with pytest.raises(InputError, match=f"'rain' is of width 40, but this model's {key} reads 32"):
        model.encode_prompt(Prompt("*", (wide,)))
    with pytest.raises(InputError, match="stands past the 5"):
        model.encode_prompt(Prompt("rain " * 600 + "*", (token,)))
    cond = model.encode_prompt(Prompt("rain"))
    if not model.velocity.attention:
        with pytest.raises(InputError, match=f"attention of {model.family} takes no edit.*Stable Diffusion"):
            model.sample(cond, cond, seeds=[1], edit=object())


@pytest.mark.training
def test_a_word_is_trained_through_it(model, tmp_path):
    from aai.adapt.settings import TrainSettings
    from aai.adapt.train import train_token
    from aai.token import load

    generator = torch.Generator().manual_seed(0)
    words = ["rain", "fire", "a photo", "night", "the city", "and again"]
    table = torch.nn.functional.normalize(torch.randn(len(words), 20, generator=generator), dim=-1)
    pictures = torch.rand(2, 3, 16, 16, generator=generator)
    settings = TrainSettings(steps=20, batch=8, seed=3, rate=0.05, validate=20, rho=None)
    trained = train_token(model, table[0], pictures, settings, "rain", table=(words, table))
    (_, first), (_, last) = trained.validations
    assert last < first
    trained.token.save(tmp_path / "rain.safetensors")
    read = load(tmp_path / "rain.safetensors")
    assert {k: v.shape[1] for k, v in read.vectors.items()} == {
        k: info.dim for k, info in model.text_encoders.items()
    }
    assert model.family in read.provenance["base"]
