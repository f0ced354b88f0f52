"""Metrics and their intervals, by hand."""

import pytest
import torch

from aai.metrics import Share, nearest_label, retrieval, student


def test_ties_count_against_the_model():
    same = torch.ones(4, 3)
    found = retrieval(same, same)
    assert found["R@1"] == 0 and found["MedR"] == 4
    assert nearest_label(same, torch.ones(2, 3), torch.tensor([0, 1, 0, 1])).hits == 0


def test_a_perfect_encoder_finds_everything():
    rows = torch.eye(12)
    assert retrieval(rows, rows) == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "MedR": 1.0}
    assert nearest_label(rows, rows, torch.arange(12)).value == 1


def test_wilson_interval():
    low, high = Share(50, 56).interval
    assert (low, high) == (pytest.approx(0.7852, abs=1e-3), pytest.approx(0.9500, abs=1e-3))


def test_ties_that_rounding_breaks_still_count():
    """Thousands of equal rows: a matrix product does not round them all alike."""
    rows = torch.randn(1, 192, generator=torch.Generator().manual_seed(0)).expand(1500, -1).contiguous()
    found = retrieval(rows, rows)
    assert found["R@10"] == 0 and found["MedR"] == 1500
    labels = torch.arange(1500)
    assert nearest_label(rows, rows, labels).hits == 0


def test_features_that_are_no_numbers_find_nothing():
    gallery = torch.eye(12)
    broken = torch.full((12, 12), float("nan"))
    assert retrieval(broken, gallery)["R@10"] == 0
    assert retrieval(gallery, broken)["R@10"] == 0
    assert nearest_label(broken, gallery, torch.arange(12)).hits == 0


def test_ranks_by_hand():
    """Own cosine 1, .8, .6 and 0 against a gallery of axes: ranks 1, 1, 2 and 4."""
    gallery = torch.eye(4)
    queries = torch.tensor([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0.8, 0, 0.6, 0], [0.6, 0.8, 0, 0]])
    found = retrieval(queries, gallery)
    assert found["R@1"] == 0.5 and found["R@5"] == 1.0
    assert found["MedR"] == 1.5
    assert nearest_label(queries, gallery, torch.arange(4)).hits == 2


def test_nothing_measured_says_nothing():
    assert Share(0, 0).interval == (0.0, 1.0)


def test_of_several_right_answers_the_nearest_counts_and_ties_with_wrong_ones_are_behind_them():
    """Labels 0, 1 and a gallery of 0, 0, 1: ranks by hand."""
    gallery = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0]])
    labels = torch.tensor([0, 0, 1])
    found = retrieval(torch.tensor([[0.0, 1, 0], [0.0, 1, 0]]), gallery, torch.tensor([0, 1]), labels)
    # The query of label 0: its best is second; of label 1: first.
    assert found["R@1"] == 0.5 and found["MedR"] == 1.5
    tied = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    assert retrieval(tied[:1], tied, torch.tensor([0]), torch.tensor([0, 1]))["R@1"] == 0


def test_a_label_that_the_gallery_lacks_is_never_found():
    found = retrieval(torch.eye(3)[:1], torch.eye(3), torch.tensor([9]), torch.arange(3))
    assert found["R@1"] == 0 and found["MedR"] == 4


def test_student_by_hand():
    # Mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.302653.
    low, high = student([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert student([5.0]) == (5.0, 5.0)
