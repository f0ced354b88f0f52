"""Eq. 1-5 against plain loops written from the equations."""

import math

import pytest
import torch

from aai.align.losses import alignment_loss, info_nce, momentum_contrastive, same_label_targets

TAU = 0.07


def cosine(x, y):
    dot = sum(a * b for a, b in zip(x, y))
    return dot / math.sqrt(sum(a * a for a in x)) / math.sqrt(sum(b * b for b in y))


def probabilities(from_rows, to_rows, i):
    """Eq. 2 and 3, the positive in the denominator."""
    terms = [math.exp(cosine(from_rows[i], other) / TAU) for other in to_rows]
    return [term / sum(terms) for term in terms]


def info_nce_by_loops(f_a, f_m, y):
    n, total = len(f_a), 0.0
    for i in range(n):
        forth, back = probabilities(f_a, f_m, i), probabilities(f_m, f_a, i)
        total += -sum(y[i][j] * math.log(forth[j]) for j in range(n)) / n
        total += -sum(y[j][i] * math.log(back[j]) for j in range(n)) / n
    return total / 2


def momentum_by_loops(f_a, f_v, q_a, q_v):
    n, total = len(f_a), 0.0
    for i in range(n):
        for p, q in (
            (probabilities(f_a, f_v, i), probabilities(q_a, q_v, i)),
            (probabilities(f_v, f_a, i), probabilities(q_v, q_a, i)),
        ):
            total += sum(b * math.log(b / a) for a, b in zip(p, q)) / n
    return total


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(4)]


def test_info_nce_is_eq_2_to_4(features):
    f_a, f_m, *_ = features
    y = [[float(i == j) for j in range(6)] for i in range(6)]
    assert info_nce(f_a, f_m, TAU).item() == pytest.approx(
        info_nce_by_loops(f_a.tolist(), f_m.tolist(), y), rel=1e-10
    )


def test_labels_that_come_twice_share_their_weight(features):
    f_a, f_m, *_ = features
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    y = [[float(a == b) / labels.tolist().count(a) for b in labels.tolist()] for a in labels.tolist()]
    targets = same_label_targets(labels, torch.float64)
    torch.testing.assert_close(targets, torch.tensor(y, dtype=torch.float64))
    expected = info_nce_by_loops(f_a.tolist(), f_m.tolist(), y)
    assert info_nce(f_a, f_m, TAU, targets).item() == pytest.approx(expected, rel=1e-10)


def test_targets_of_different_labels_are_eq_2_to_4_again(features):
    f_a, f_m, *_ = features
    targets = same_label_targets(torch.arange(6), torch.float64)
    assert info_nce(f_a, f_m, TAU, targets).item() == pytest.approx(info_nce(f_a, f_m, TAU).item(), rel=1e-12)


def test_momentum_contrastive_is_eq_5(features):
    rows = [f.tolist() for f in features]
    assert momentum_contrastive(*features, TAU).item() == pytest.approx(momentum_by_loops(*rows), rel=1e-10)


def test_momentum_targets_carry_no_gradient(features):
    f_a, f_v, q_a, q_v = (f.requires_grad_() for f in features)
    momentum_contrastive(f_a, f_v, q_a, q_v, TAU).backward()
    assert f_a.grad.abs().sum() > 0
    assert q_a.grad is None and q_v.grad is None


def test_eq_1_weighs_its_parts():
    a_t, a_v, l_t = torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0)
    assert alignment_loss(a_t, a_v, l_t, alpha=0.4).item() == pytest.approx(2 + 0.6 * 3 + 0.2 * 5)


def test_the_temperature_can_be_learned(features):
    f_a, f_v, q_a, q_v = features
    tau = torch.tensor(TAU, dtype=torch.float64, requires_grad=True)
    (info_nce(f_a, f_v, tau) + momentum_contrastive(f_a, f_v, q_a, q_v, tau.detach())).backward()
    step = 1e-6
    slope = (info_nce(f_a, f_v, TAU + step) - info_nce(f_a, f_v, TAU - step)) / (2 * step)
    assert tau.grad.item() == pytest.approx(slope.item(), rel=1e-5)


def test_gradients_stay_finite_when_sounds_are_alike():
    f_a = torch.ones(4, 8, requires_grad=True)
    (
        info_nce(f_a, torch.eye(4, 8), 0.01)
        + momentum_contrastive(f_a, torch.eye(4, 8), f_a, torch.eye(4, 8), 0.01)
    ).backward()
    assert torch.isfinite(f_a.grad).all()
