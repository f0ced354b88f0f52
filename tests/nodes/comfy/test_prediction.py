"""Flows and diffusions: their noisy pictures, and what is left to learn of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture(scope="module")
def predicted(pack, comfy):
    """predicted(sampling) -> what a MODEL of this sampling predicts."""

    def predict(sampling):
        inner = SimpleNamespace(diffusion_model=None)
        return pack.part("nodes.comfy.prediction").prediction(
            SimpleNamespace(model=inner, get_model_object={"model_sampling": sampling}.get)
        )

    return predict


@pytest.fixture(scope="module")
def lcm(core):
    """Core's sampling of a distilled model: 50 sigmas of 1000 timesteps."""
    from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscreteDistilled

    return type("Distilled", (ModelSamplingDiscreteDistilled, LCM), {})()


@pytest.fixture(scope="module")
def plain(comfy):
    from comfy.model_sampling import EPS, ModelSamplingDiscrete

    return type("Plain", (ModelSamplingDiscrete, EPS), {})()


@pytest.fixture(params=["plain", "lcm"])
def diffusion(request, predicted):
    return predicted(request.getfixturevalue(request.param))


def test_there_is_a_ratio_for_each_timestep(diffusion):
    """A model is called at timesteps, and its noise is read off at the same ones."""
    t = torch.tensor([0, 20, 500, 999])
    assert diffusion.ratios.shape == (1000,) and diffusion.ratios.dtype == torch.float32
    assert torch.equal(diffusion.ratios[t], diffusion.sigma(t))
    assert_close(diffusion.ratios[-1], diffusion.sampling.sigma_max)
    assert_close(diffusion.ratios[0], diffusion.sampling.sigma_min)


class Watched:
    """A picture model of no weights that keeps the sigmas at which it is called."""

    device, fingerprint = torch.device("cpu"), "watched"

    def __init__(self, diffusion):
        self.diffusion, self.seen = diffusion, []

    @property
    def sigmas(self):
        return self.diffusion.ratios

    def predict_noise(self, latents, t, cond):
        self.seen.append(float(self.diffusion.sigma(t)))
        return torch.zeros_like(latents)


def test_inversions_and_previews_call_a_model_at_its_own_sigmas(diffusion, pack):
    model, latents = Watched(diffusion), torch.zeros(1, 4, 8, 8)
    trajectory = pack.part("aai.inject.invert").invert(model, latents, None, 5)
    assert model.seen == trajectory.sigmas.flip(0)[1:].tolist() and len(set(model.seen)) == 5
    model.seen = []
    pack.part("aai.picture.preview").preview(model, None, None, latents, steps=4, guidance=1)
    sigmas = pack.part("aai.picture.schedule").normal(diffusion.ratios, 4)
    assert model.seen == pytest.approx(sigmas[:-1].tolist(), rel=0.01)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_noise_that_is_counted_otherwise_is_refused(predicted, pack, shift):
    from comfy.model_sampling import EPS, StableCascadeSampling

    cascade = type("Cascade", (StableCascadeSampling, EPS), {})()
    cascade.set_parameters(shift)
    with pytest.raises(pack.part("aai.errors").InputError, match="does not count its noise in 1000"):
        predicted(cascade)


@pytest.fixture(scope="module")
def flow(pack, comfy):
    from comfy.model_base import ModelType, model_sampling

    config = SimpleNamespace(sampling_settings={"shift": 3.0})
    return pack.part("nodes.comfy.prediction").Flow(model_sampling(config, ModelType.FLOW))


def test_a_flows_times_follow_its_shift(flow):
    t = torch.tensor([0, 499, 999])
    place = (t + 0.5) / 1000
    assert_close(flow.sigma(t), 3 * place / (1 + 2 * place))
    assert (flow.ratios.diff() > 0).all() and torch.isfinite(flow.ratios).all()


def test_a_flow_is_the_straight_way_from_picture_to_noise(flow):
    latents, noise = torch.randn(2, 2, 16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.25, 0.75])
    x = flow.noisy(latents, noise, sigma)
    assert_close(x[0], 0.75 * latents[0] + 0.25 * noise[0])
    # Where the picture is known, so is the noise, and there is nothing to learn.
    assert_close(flow.noise(x, latents, sigma), noise, atol=1e-5, rtol=1e-5)
    assert float(flow.loss(x, latents, latents, noise, sigma)) == 0
    # Else the loss is the error in the velocity n - x0 = (x - x0) / s.
    guess = torch.zeros_like(latents)
    share = sigma[:, None, None, None, None]
    wanted = ((x - guess) / share - (noise - latents)).square().mean()
    assert_close(flow.loss(x, guess, latents, noise, sigma), wanted)
    unit = flow.scaled(
        (latents + share / (1 - share) * noise) / (1 + (share / (1 - share)) ** 2).sqrt(), sigma
    )
    assert_close(unit, x, atol=1e-5, rtol=1e-5)
