"""Ridge regression against its definition."""

import pytest
import torch

from aai.ridge import ridge


def spread(seed, dims, count=200, ways=3, out=40):
    """x of labels, each said in ways that scatter about it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, dims, generator=generator) + 0.3
    return x + 0.1 * torch.randn(count, ways, dims, generator=generator), generator


def test_a_known_linear_map_is_recovered():
    x, generator = spread(0, 24)
    weight, offset = torch.randn(40, 24, generator=generator), torch.randn(40, generator=generator)
    # Every way says the same here, so that the map is exact.
    x = x.mean(1, keepdim=True)
    fitted = ridge(x, x[:, 0] @ weight.T + offset)
    torch.testing.assert_close(fitted.weight, weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fitted.mean_y - fitted.weight @ fitted.mean_x, offset, rtol=1e-3, atol=1e-3)
    assert fitted.lam == pytest.approx(1e-6)


def test_left_out_answers_are_those_of_fits_without_the_label():
    x, generator = spread(1, 6, count=12)
    y = torch.randn(12, 5, generator=generator)
    fitted = ridge(x, y)
    scale = ((x.double() - x.double().mean((0, 1))).flatten(0, 1).square().sum()) / 6
    for label in (0, 5, 11):
        rest = [i for i in range(12) if i != label]
        xs, ys = x[rest].double().flatten(0, 1), y[rest].double().repeat_interleave(3, 0)
        centred = xs - xs.mean(0)
        gram = centred.T @ centred + fitted.lam * scale * torch.eye(6, dtype=torch.double)
        weight = torch.linalg.solve(gram, centred.T @ (ys - ys.mean(0)))
        expected = (x[label].double() - xs.mean(0)) @ weight + ys.mean(0)
        torch.testing.assert_close(fitted.left_out.unflatten(0, (12, 3))[label], expected.float())


def test_noise_makes_lambda_grow():
    x, generator = spread(2, 24, count=60)
    weight = torch.randn(40, 24, generator=generator)
    clean = x.mean(1) @ weight.T
    noisy = ridge(x, clean + 8 * torch.randn(60, 40, generator=generator))
    assert ridge(x, clean).lam < noisy.lam
    # Labels that have nothing to do with x are best answered by their mean.
    unrelated = ridge(x, torch.randn(60, 40, generator=generator))
    assert (unrelated.left_out - unrelated.mean_y).norm(dim=-1).mean() < 1
