"""The grid of a decoder's patches, as a number."""

import pytest
import torch

from aai.soundworld.evaluate.captions import grid_energy, rendered


def test_smooth_pictures_have_no_grid_and_patches_have_one():
    noise = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert grid_energy(noise) == pytest.approx(1, abs=0.05)
    patches = torch.rand(2, 3, 16, 16).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert grid_energy(patches) == pytest.approx(127 / 15, rel=1e-6)


def test_rendered_pictures_have_none():
    assert 0.9 < grid_energy(rendered(range(1))) < 1.2
