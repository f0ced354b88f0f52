"""SGSIM's sound encoder against numbers of the published code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from aai.audio import Sound
from aai.encoders.loaders import load
from aai.encoders.sgsim import SGSIMTower, log_mel
from aai.errors import InputError

PLACES = ((0, 0), (5, 10), (20, 3), (60, 140), (100, 300), (127, 20))
PICTURE, MEAN = (0.43475, 0.44468, 0.8917, 0.39875, 0.0, 0.4352), 0.091792
RECORDED = (-0.073799, 0.121584, 0.09649, 0.013665, 0.038524, 0.042546, -0.057147, 0.03908)
"""Of chirp(2, 44100): the picture of a sound, as librosa 0.10.2 (pad_mode="reflect") and OpenCV 5.0 make it,
and how its feature begins, of length one, in kuai-lab/sound-guided-semantic-image-manipulation at dfba091
with the weights of `formula`."""


def test_the_picture_of_a_sound_is_that_of_librosa_and_opencv(chirp):
    picture = log_mel(chirp(2, 44100))
    assert picture.shape == (1, 1, 128, 512)
    found = torch.stack([picture[0, 0, row, column] for row, column in PLACES])
    assert_close(found, torch.tensor(PICTURE), atol=2e-5, rtol=0)
    assert picture.mean().item() == pytest.approx(MEAN, abs=1e-5)


def test_it_hears_as_the_published_code(formula, chirp, tmp_path):
    torch.save({f"module.{k}": v for k, v in formula(SGSIMTower()).state_dict().items()}, tmp_path / "s.pth")
    encoder = load(tmp_path / "s.pth")
    f_a = encoder.embed([Sound(chirp(2, 44100), 44100)])
    assert_close(f_a[0, :8], torch.tensor(RECORDED), atol=2e-5, rtol=0)
    assert (encoder.embed([Sound(chirp(4, 44100), 44100)]) - f_a).abs().max() > 2e-3
    assert "not for commercial use" in encoder.notes["licence"]


def test_a_file_of_another_version_says_what_it_lacks(tmp_path):
    torch.save({"feature_extractor.fc.weight": torch.zeros(512, 512)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth.*lacks 103 of .* SGSIM's.*\(conv\.weight, conv\.bias"):
        load(tmp_path / "other.pth")
