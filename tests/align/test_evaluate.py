from types import SimpleNamespace

import pytest
import torch

from aai.align.evaluate import label_accuracy, per_class, retrieval_tables
from aai.metrics import Share, nearest_label, retrieval


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


def test_long_queries_are_ranked_in_parts_alike():
    generator = torch.Generator().manual_seed(0)
    rows, gallery = torch.randn(1500, 4, generator=generator), torch.randn(1500, 4, generator=generator)
    scores = (
        torch.nn.functional.normalize(rows.double(), dim=-1)
        @ torch.nn.functional.normalize(gallery.double(), dim=-1).T
    )
    rank = (scores > scores.diag()[:, None]).sum(1) + 1
    assert retrieval(rows, gallery)["MedR"] == torch.quantile(rank.float(), 0.5)


def test_subsets_take_so_many_of_each_class_by_seed():
    labels = torch.tensor([0] * 12 + [1] * 3 + [2])
    rows = per_class(labels, 5)
    assert labels[rows].bincount().tolist() == [5, 3, 1]
    assert torch.equal(rows, per_class(labels, 5)) and not torch.equal(rows, per_class(labels, 5, seed=1))
    assert torch.equal(per_class(labels, None), torch.arange(16))


def test_tables_of_the_subsets_that_differ():
    labels = torch.arange(3).repeat_interleave(7)
    f_a = torch.eye(21)
    tables = retrieval_tables(f_a, f_a, None, labels)
    assert [(t["subset"], t["clips"], t["classes"]) for t in tables] == [("5 a class", 15, 3), ("all", 21, 3)]
    assert tables[0]["picture to sound"]["R@1"] == 1 and "sound to text" not in tables[0]
    f_t = torch.eye(21)[[0, 7, 14]]
    (*_, whole) = retrieval_tables(f_a, None, f_t, labels)
    # Each label is the very sound of one of its clips; the other clips are as far from all labels: ties.
    assert whole["text to sound"]["R@1"] == 1 and whole["sound to text"]["R@1"] == pytest.approx(3 / 21)


def test_a_long_clip_is_measured_in_parts():
    """An hour of sound is hundreds of windows, too many for one pass."""
    sizes = []

    def audio_features(fbanks):
        sizes.append(len(fbanks))
        return fbanks[:, 0, :2]

    model = SimpleNamespace(modality_a=torch.zeros(1), audio_features=audio_features)
    fbanks = torch.zeros(150, 1, 2)
    fbanks[:140, 0, 0], fbanks[140:, 0, 1] = 1, 1
    windows = [tuple(range(140)), tuple(range(140, 150))]
    features = SimpleNamespace(fbanks=fbanks, windows=windows, f_t=torch.eye(2), labels=torch.arange(2))
    found = label_accuracy(model, features)
    assert (found.hits, found.count) == (2, 2) and sum(sizes) == 150 and max(sizes) <= 64
