"""ComfyPictureModel against diffusers' U-Net with the same weights, and gradients through ComfyUI."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close


def alphas_cumprod():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def predicting(kind, small, pack):
    """A picture model whose U-Net is read as predicting `kind`: "eps" or "v_prediction"."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    model = ModelSamplingDiscrete().patch(small.model, kind, False)[0]
    return pack.part("nodes.comfy.picture").ComfyPictureModel(model, small.clip, small.vae)


def test_noise_prediction_equals_diffusers(picture, small, pack):
    models, diffusers = pack.part("aai.soundworld.models"), pack.part("aai.picture.diffusers")
    other = diffusers.DiffusersPictureModel(
        small.unet, small.tower, small.tokenizer, small.autoencoder, models.SCHEDULER_CONFIG
    )
    prompt = pack.part("aai.prompt").Prompt("a photo of heavy rain")
    generator = torch.Generator().manual_seed(1)
    latents, t = torch.randn(3, 32, 16, 16, generator=generator), torch.tensor([3, 500, 999])
    with torch.inference_mode():
        wanted = other.predict_noise(latents, t, other.encode_prompt(prompt))
        ours = picture.predict_noise(latents, t, picture.encode_prompt(prompt))
        assert_close(ours, wanted, atol=1e-4, rtol=0)


def test_a_model_is_editable_where_its_attention_is_reached(picture, pack):
    picture.check_editable()
    transformer = type("PixArtMS", (torch.nn.Module,), {})()
    picture.model = SimpleNamespace(model=SimpleNamespace(diffusion_model=transformer))
    with pytest.raises(pack.part("aai.errors").InputError, match="PixArt's attention cannot be reached"):
        picture.check_editable()


def test_a_model_of_noise_is_read_as_one(small, pack):
    picture = predicting("eps", small, pack)
    prompt = pack.part("aai.prompt").Prompt("a photo of heavy rain")
    generator = torch.Generator().manual_seed(1)
    latents, t = torch.randn(3, 32, 16, 16, generator=generator), torch.tensor([3, 500, 999])
    with torch.inference_mode():
        cond = picture.encode_prompt(prompt)
        wanted = small.unet(latents, t, cond.cross.expand(3, -1, -1)).sample
        assert_close(picture.predict_noise(latents, t, cond), wanted, atol=1e-4, rtol=0)


def test_denoising_loss_is_the_error_in_the_noise(small, pack):
    picture = predicting("eps", small, pack)
    prompt = pack.part("aai.prompt").Prompt("a photo of a dog")
    generator = torch.Generator().manual_seed(2)
    latents, noise = torch.randn(2, 2, 32, 16, 16, generator=generator)
    t = torch.tensor([100, 800])
    with torch.inference_mode():
        cond = picture.encode_prompt(prompt)
        alpha = alphas_cumprod()[t][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        wanted = (small.unet(noisy, t, cond.cross.expand(2, -1, -1)).sample - noise).square().mean()
        assert_close(picture.denoising_loss(latents, cond, noise, t), wanted, atol=1e-4, rtol=0)


def test_v_prediction_loss_is_the_error_in_v(small, pack):
    picture = predicting("v_prediction", small, pack)
    generator = torch.Generator().manual_seed(3)
    latents, noise = torch.randn(2, 2, 32, 16, 16, generator=generator)
    t = torch.tensor([100, 800])
    with torch.inference_mode():
        cond = picture.encode_prompt(pack.part("aai.prompt").Prompt("a photo of a dog"))
        alpha = alphas_cumprod()[t][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        v = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        wanted = (small.unet(noisy, t, cond.cross.expand(2, -1, -1)).sample - v).square().mean()
        assert_close(picture.denoising_loss(latents, cond, noise, t), wanted, atol=1e-4, rtol=1e-4)


def test_a_gradient_reaches_the_token_and_the_weights_come_back(picture, small, pack, make_token):
    prompt = pack.part("aai.prompt").Prompt("a photo of *", (make_token(),))
    weights = {k: v.clone() for k, v in small.model.model.diffusion_model.state_dict().items()}
    parameters = [*small.model.model.parameters(), *small.clip.cond_stage_model.parameters()]
    assert any(p.is_inference() for p in parameters)
    latents = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(1))

    def loss(model, vectors):
        cond = model.encode_prompt(prompt, {"rain": {"clip_l": vectors}})
        return model.denoising_loss(latents, cond, noise, torch.tensor([400]))

    with torch.inference_mode(), picture.training() as trainable:
        vectors = prompt.tokens[0].vectors["clip_l"].clone().requires_grad_()
        loss(trainable, vectors).backward()
        gradient = vectors.grad.clone()
        assert gradient.norm() > 0
        direction = gradient / gradient.norm()
        with torch.no_grad():
            step = 0.01
            ahead, behind = (loss(trainable, vectors + s * step * direction) for s in (1, -1))
    assert_close((ahead - behind) / (2 * step), gradient.norm(), rtol=0.05, atol=1e-6)
    after = [*small.model.model.parameters(), *small.clip.cond_stage_model.parameters()]
    assert [p.is_inference() for p in after] == [p.is_inference() for p in parameters]
    for key, value in small.model.model.diffusion_model.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_weights_come_back_after_an_error(picture, small):
    with pytest.raises(KeyError), torch.inference_mode(), picture.training():
        raise KeyError("stopped")
    assert all(p.is_inference() for p in small.model.model.diffusion_model.parameters())


def test_a_flow_is_trained_in_its_velocity(small, pack):
    """At the times of its own shifted schedule; and the noise is what is left of x without the picture."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model = ModelSamplingSD3().patch(small.model, 3.0)[0]
    picture = pack.part("nodes.comfy.picture").ComfyPictureModel(model, small.clip, small.vae)
    latents, noise = torch.randn(2, 2, 32, 8, 8, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([100, 800])
    with torch.inference_mode():
        cond = picture.encode_prompt(pack.part("aai.prompt").Prompt("a photo of a dog"))
        place = (t[:, None, None, None] + 0.5) / 1000
        s = 3 * place / (1 + 2 * place)
        x = (1 - s) * latents + s * noise
        v = small.unet(x, 1000 * s.flatten(), cond.cross.expand(2, -1, -1)).sample
        wanted = (v - (noise - latents)).square().mean()
        assert_close(picture.denoising_loss(latents, cond, noise, t), wanted, atol=1e-4, rtol=1e-4)
        length = (s**2 + (1 - s) ** 2).sqrt()
        assert_close(picture.predict_noise(x / length, t, cond), x + (1 - s) * v, atol=1e-4, rtol=1e-3)
        assert_close(picture.sigmas[t], (s / (1 - s)).flatten())


def test_a_model_of_neither_is_refused_by_its_name(small, pack):
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    model = ModelSamplingContinuousEDM().patch(small.model, "edm", 120.0, 0.002)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="BaseModel predicts neither"):
        pack.part("nodes.comfy.picture").ComfyPictureModel(model, small.clip, small.vae)


def test_each_seed_is_its_own_picture(picture, pack):
    Prompt = pack.part("aai.prompt").Prompt
    with torch.inference_mode():
        cond, uncond = picture.encode_prompt(Prompt("rain")), picture.encode_prompt(Prompt(""))
        steps = []
        pair = picture.sample(
            cond, uncond, seeds=[5, 9], steps=2, callback=lambda *report: steps.append(report)
        )
        alone = picture.sample(cond, uncond, seeds=[9], steps=2)
        images = picture.decode(pair)
    assert [report[:2] for report in steps] == [(1, 2), (2, 2)]
    assert steps[1][2].shape == pair.shape
    # Latents start at sigma 14.6, and guidance multiplies the rounding.
    assert_close(pair[1:], alone, atol=2e-3, rtol=1e-3)
    assert images.shape == (2, 3, 128, 128) and 0 <= images.min() and images.max() <= 1


def test_a_model_with_others_patches_trains(picture, small, pack):
    """Self-Attention Guidance asks which rows of a call are of the prompt, as IPAdapter does."""
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    guided = SelfAttentionGuidance.execute(small.model, 0.5, 2.0).args[0]
    other = pack.part("nodes.comfy.picture").ComfyPictureModel(guided, small.clip, small.vae)
    prompt, t = pack.part("aai.prompt").Prompt("a photo of rain"), torch.tensor([500])
    latents = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        cond = picture.encode_prompt(prompt)
        wanted, found = (p.denoising_loss(latents, cond, latents.flip(0), t) for p in (picture, other))
    assert_close(found, wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("width", "kind", "side"),
    [
        (768, "eps", 512),
        (1024, "eps", 512),
        (1024, "v_prediction", 768),
        (2048, "eps", 1024),
        (1280, "eps", 1024),
    ],
)
def test_the_models_own_size_goes_by_its_family(small, pack, monkeypatch, width, kind, side):
    picture = predicting(kind, small, pack)
    config = SimpleNamespace(unet_config={"context_dim": width})
    monkeypatch.setattr(picture.model.model, "model_config", config)
    assert picture.native_size == side
