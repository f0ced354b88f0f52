"""Words trained in their direction alone."""

import math

import pytest
import torch

from aai import token
from aai.adapt.direction import DirectionalDescent
from aai.adapt.settings import TrainSettings
from aai.adapt.train import train_token

LENGTH = 0.4


def descent(rows, sound, angle, kappa=0.0):
    return DirectionalDescent([{"params": [rows], "lr": angle, "sound": sound, "length": LENGTH}], kappa)


def angle_between(a, b):
    return math.acos(min(1.0, float(torch.cosine_similarity(a, b, dim=-1))))


@pytest.fixture
def sound():
    sound = torch.randn(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return LENGTH * sound / sound.norm()


def test_a_step_turns_by_its_angle_and_keeps_the_length(sound):
    rows = torch.zeros(2, 16, dtype=torch.float64, requires_grad=True)
    rows.grad = torch.randn(2, 16, dtype=torch.float64)
    descent(rows, sound, 0.1).step()
    e = sound + rows.detach()
    torch.testing.assert_close(e.norm(dim=1), torch.full((2,), LENGTH, dtype=torch.float64))
    for row in e:
        assert math.isclose(angle_between(row, sound), math.atan(0.1), rel_tol=1e-6)


def test_it_goes_where_the_loss_falls(sound):
    target = torch.randn(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.zeros(1, 16, dtype=torch.float64, requires_grad=True)
    optimizer = descent(rows, sound, 0.02)
    for _ in range(120):
        loss = -((sound + rows) @ target).sum()
        (rows.grad,) = torch.autograd.grad(loss, rows)
        optimizer.step()
    assert angle_between((sound + rows.detach())[0], target) < 0.03


def test_the_prior_draws_it_to_the_sound(sound):
    rows = torch.randn(
        1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    ).requires_grad_()
    before = angle_between((sound + rows.detach())[0], sound)
    rows.grad = torch.zeros_like(rows)
    descent(rows, sound, 0.05, kappa=1e-4).step()
    assert angle_between((sound + rows.detach())[0], sound) < before - 0.04


def test_without_a_gradient_it_stays(sound):
    rows = torch.zeros(1, 16, dtype=torch.float64, requires_grad=True)
    rows.grad = torch.zeros_like(rows)
    descent(rows, sound, 0.05).step()
    assert torch.allclose(rows.detach(), torch.zeros_like(rows), atol=1e-15)


@pytest.mark.parametrize("rho", [None, 0.2])
def test_a_token_keeps_its_length_and_its_radius(model, f_a, images, rho):
    made = train_token(model, f_a, images, TrainSettings(steps=4, rate=0.02, norm="direction", rho=rho)).token
    s = model.text_encoders["clip_l"].mean_norm
    assert math.isclose(float(made.vectors["clip_l"].norm()), s, rel_tol=1e-4)
    assert rho is None or float(made.f_adapter["clip_l"].norm()) <= rho * s * 1.0001


def test_a_stopped_training_goes_on_to_the_same_token(model, f_a, images, tmp_path):
    settings = TrainSettings(steps=6, rate=0.01, norm="direction", kappa=1e-3)
    whole, kept = train_token(model, f_a, images, settings, "x"), []

    def stop(step, steps, loss):
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_token(model, f_a, images, settings, "x", callback=stop, on_stop=kept.append)
    kept[0].token.save(tmp_path / "x.safetensors")
    rest = train_token(model, f_a, images, settings, "x", resume=token.load(tmp_path / "x.safetensors"))
    torch.testing.assert_close(rest.token.vectors["clip_l"], whole.token.vectors["clip_l"], rtol=0, atol=1e-6)
