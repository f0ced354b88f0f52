"""The loss scale and the learning rate's schedule."""

import pytest
import torch

from aai.optim import FIRST, LossScale, set_rate


def test_only_float16_is_scaled():
    assert LossScale(torch.float16).value == FIRST
    assert LossScale(torch.float32).value == LossScale(torch.bfloat16).value == 1


def test_an_overflow_halves_the_scale():
    scale = LossScale(torch.float16)
    assert not scale.overflows([torch.ones(3), torch.zeros(2)]) and scale.value == FIRST
    assert scale.overflows([torch.ones(3), torch.tensor([1.0, torch.inf])]) and scale.value == FIRST / 2
    assert scale.overflows([torch.tensor(torch.nan)]) and scale.value == FIRST / 4


def test_the_rate_rises_and_falls_along_a_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9.0)
    rates = []
    for step in range(101):
        set_rate(optimizer, 2.0, step, steps=100, warmup=10)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.2) and max(rates) == pytest.approx(rates[9])
    assert rates[50] == pytest.approx(2 * 0.51) and rates[100] == pytest.approx(2 / 50)
    assert rates[10:] == sorted(rates[10:], reverse=True)
