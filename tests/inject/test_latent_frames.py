"""What latent frames read: texts one behind another, by frames that read the same, at a scale."""

import pytest
import torch

from aai.errors import InputError
from aai.inject.latent_frames import LatentFilm, Take, chosen, heard, runs


def test_each_row_has_its_text():
    x = torch.arange(2 * 3 * 6 * 2.0).reshape(2, 3, 6, 2)
    found = chosen(x, 2, {0: 2, 1: 0})
    assert torch.equal(found[0], x[0, :, 4:6]) and torch.equal(found[1], x[1, :, 0:2])
    found += 1
    assert x[0, 0, 0, 0] == 0
    mask = torch.arange(2 * 6.0).reshape(2, 1, 6)
    assert torch.equal(chosen(mask, 2, {1: 1}, -1), torch.tensor([[[0.0, 1.0]], [[8.0, 9.0]]]))


def test_neighbouring_frames_of_one_take_are_one_run():
    assert runs([1, 1, 0, None, None, 1]) == [(0, 2, 1), (2, 3, 0), (3, 5, None), (5, 6, 1)]


def test_a_scale_goes_from_the_text_without_the_words_to_all_of_it():
    texts, read = [torch.full((1, 2), 3.0), torch.full((1, 2), 7.0)], []

    def counted(number):
        read.append(number)
        return texts[number]

    for scale, expected, asked in ((1.0, 7.0, [1]), (0.0, 3.0, [0]), (0.5, 5.0, [0, 1]), (2.0, 11.0, [0, 1])):
        read.clear()
        assert float(heard(counted, Take(1, scale), 0)[0, 0]) == expected and sorted(read) == asked


def test_a_film_has_no_more_frames_than_its_timeline():
    film = LatentFilm((0, 1, 0), (Take(0), Take(1)), (), ())
    assert film.of([2, 1]) == [0, 1]
    with pytest.raises(InputError, match="3 latent frames long, and the latent has 4"):
        film.of([0, 3])
