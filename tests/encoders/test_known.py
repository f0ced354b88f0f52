"""The test of what an encoder knows, as a value and in an encoder's file."""

import pytest
import torch

from aai.encoders.known import Known


def test(dim=6, hidden=4, threshold=0.3):
    torch.manual_seed(0)
    return Known(torch.randn(hidden, dim), torch.randn(hidden), torch.randn(hidden), 0.2, threshold)


test.__test__ = False


def test_the_probability_depends_on_the_direction_alone():
    known, f_a = test(), torch.randn(5, 6)
    scores = known.probability(f_a)
    assert scores.shape == (5,) and ((0 < scores) & (scores < 1)).all()
    assert torch.allclose(scores, known.probability(7 * f_a))


def test_its_state_makes_it_again():
    known, f_a = test(), torch.randn(5, 6)
    again = Known.restore(*known.state(), dim=6)
    assert again.threshold == known.threshold and torch.equal(again.logits(f_a), known.logits(f_a))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, numbers: tensors.update(hidden=torch.zeros(4, 5)),
        lambda tensors, numbers: tensors.update(bias=torch.zeros(3)),
        lambda tensors, numbers: tensors.update(out=torch.full((4,), float("nan"))),
        lambda tensors, numbers: tensors.pop("out"),
        lambda tensors, numbers: numbers.update(threshold=2.0),
        lambda tensors, numbers: numbers.update(offset=float("inf")),
        lambda tensors, numbers: numbers.update(offset="much"),
        lambda tensors, numbers: numbers.update(offset=None),
    ],
)
def test_what_does_not_fit_is_refused(spoil):
    tensors, numbers = test().state()
    spoil(tensors, numbers)
    with pytest.raises((KeyError, TypeError, ValueError)):
        Known.restore(tensors, numbers, dim=6)
