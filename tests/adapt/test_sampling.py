"""The pictures and timesteps of training steps."""

from itertools import islice

import pytest
import torch

from aai.adapt.sampling import TIMESTEPS, at, picture_rows, timesteps
from aai.adapt.settings import TrainSettings


def drawn(steps, **settings):
    generator = torch.Generator().manual_seed(0)
    return torch.stack(list(islice(timesteps(TrainSettings(**settings), generator), steps)))


def test_every_picture_comes_once_before_any_comes_again():
    rows = torch.cat(list(islice(picture_rows(5, 3, torch.Generator().manual_seed(0)), 10)))
    for each in rows.split(5):
        assert sorted(each.tolist()) == [0, 1, 2, 3, 4]
    assert len(set(map(tuple, rows.view(6, 5).tolist()))) > 1
    (more,) = islice(picture_rows(2, 5, torch.Generator().manual_seed(0)), 1)
    assert len(more) == 5 and set(more.tolist()) == {0, 1}


def test_places_become_timesteps_of_the_schedule():
    assert at(torch.tensor([0.0, 0.5, 0.9999, 1.0])).tolist() == [0, 500, 999, TIMESTEPS - 1]


def test_stratified_timesteps_have_one_in_each_part_of_the_schedule():
    batches = drawn(50, batch=4)
    assert (batches // 250 == torch.arange(4)).all()
    # The batches' own places are spread evenly too.
    assert torch.histc(batches[:, 0].float(), 5, 0, 250).min() >= 9


def test_antithetic_timesteps_come_with_their_opposites():
    batches = drawn(20, batch=4, timesteps="antithetic")
    assert ((batches[:, :2] + batches[:, 2:] - (TIMESTEPS - 1)).abs() <= 1).all()


@pytest.mark.parametrize("draw", ["stratified", "antithetic", "uniform"])
def test_all_timesteps_are_as_likely_in_the_long_run(draw):
    shares = torch.histc(drawn(2000, batch=3, timesteps=draw).float(), 10, 0, TIMESTEPS) / 6000
    assert (shares - 0.1).abs().max() < 0.02
