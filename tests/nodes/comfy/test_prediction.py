"""Flows and diffusions: their noisy pictures, and what is left to learn of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close


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
