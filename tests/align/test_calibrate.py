"""The test of what an encoder knows is fitted to tell clips from sounds of no label."""

import torch
from torch.nn import functional as F

from aai.align.calibrate import fit_known, strange


def around(centres, count, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(centres), (count,), generator=generator)
    return F.normalize(centres[rows] + spread * torch.randn(count, centres.shape[1], generator=generator))


def test_known_and_unknown_are_told_apart_where_they_can_be():
    centres = F.normalize(torch.randn(12, 32, generator=torch.Generator().manual_seed(0)))
    inside, outside = around(centres[:6], 200, 0.08, 1), around(centres[6:], 100, 0.08, 2)
    known = fit_known(inside, outside)
    assert (known.probability(around(centres[:6], 200, 0.08, 3)) >= known.threshold).float().mean() > 0.9
    assert (known.probability(around(centres[6:], 200, 0.08, 4)) < known.threshold).float().mean() > 0.95


def test_the_threshold_refuses_one_in_twenty_of_the_held_out():
    centres = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))
    inside, outside = around(centres[:4], 200, 0.2, 1), around(centres[2:], 200, 0.2, 2)
    held_out = around(centres[:4], 400, 0.2, 3)
    known = fit_known(inside, outside, held_out)
    refused = (known.probability(held_out) < known.threshold).float().mean()
    assert 0.03 < refused < 0.07


def test_sounds_that_are_of_a_label_after_all_are_no_strangers():
    centres = F.normalize(torch.randn(12, 32, generator=torch.Generator().manual_seed(0)))
    inside = around(centres[:6], 200, 0.08, 1)
    own, others = around(centres[4:6], 50, 0.08, 2), around(centres[6:], 50, 0.08, 3)
    left = strange(inside, torch.cat([own, others]))
    assert len(left) < 80 and torch.equal(left[-50:], others)
    kept = fit_known(inside, left)
    assert (kept.probability(around(centres[4:6], 200, 0.08, 4)) >= kept.threshold).float().mean() > 0.85
    # Where all are, the farthest are taken.
    assert len(strange(inside, own)) >= 12


def test_few_clips_are_enough_and_the_same_ones_give_the_same_test():
    inside, outside = torch.randn(2, 8), torch.randn(3, 8)
    first, again = fit_known(inside, outside), fit_known(inside, outside)
    assert torch.equal(first.hidden, again.hidden) and first.threshold == again.threshold
