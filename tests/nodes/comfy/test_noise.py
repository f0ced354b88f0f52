"""A source and its edited pictures have one noise, whatever a sampler draws it with."""

from __future__ import annotations

import pytest
import torch

STEPS, SEED = 4, 7


@pytest.fixture(scope="session")
def custom_sampled(core, small, encoded):
    """custom_sampled(sampler, model, positive, latent) -> the latents of core's SamplerCustom."""
    import comfy.sample

    def sample(sampler, model, positive, latent):
        sigmas = core.comfy.samplers.calculate_sigmas(
            small.model.get_model_object("model_sampling"), "normal", STEPS
        )
        with torch.inference_mode():
            start = latent["samples"]
            noise = comfy.sample.prepare_noise(start, SEED, latent.get("batch_index"))
            return comfy.sample.sample_custom(
                model, noise, 4.0, sampler, sigmas, positive, encoded("night"), start, seed=SEED
            )

    return sample


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2", "heunpp2"])
def test_churn_is_shared(core, small, edit, encoded, custom_sampled, name, empty, assert_same):
    sampler = core.comfy.samplers.ksampler(name, {"s_churn": 2.0})
    pairs = custom_sampled(sampler, *edit(latent=empty(2)))
    alone = custom_sampled(sampler, small.model, encoded("a city"), empty(2))
    assert_same(pairs[[0, 2]], alone)
    without = custom_sampled(core.comfy.samplers.ksampler(name), small.model, encoded("a city"), empty(2))
    assert not torch.allclose(alone, without, atol=1e-3)


def test_a_sampler_with_noise_of_its_own_shares_it(small, edit, encoded, custom_sampled, empty, assert_same):
    from comfy.samplers import KSAMPLER
    from comfy_extras.nodes_advanced_samplers import sample_lcm_upscale

    sampler = KSAMPLER(sample_lcm_upscale, {"total_upscale": 1.5, "upscale_method": "bilinear"})
    pair = custom_sampled(sampler, *edit())
    assert pair.shape[-1] == 12
    assert_same(pair[:1], custom_sampled(sampler, small.model, encoded("a city"), empty()))
    silent = custom_sampled(sampler, *edit(scale="0"))
    assert_same(silent[1:], silent[:1])


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_a_noise_mask_keeps_the_latent_as_alone(small, edit, encoded, sampled, sampler, assert_same):
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    latent = {"samples": torch.randn(1, 32, 8, 8, generator=generator), "noise_mask": mask}
    pair = sampled(*edit(latent=latent), sampler)
    assert_same(pair[:1], sampled(small.model, encoded("a city"), latent, sampler))
    assert torch.allclose(pair[..., :4], latent["samples"][..., :4].expand(2, -1, -1, -1), atol=1e-5)
