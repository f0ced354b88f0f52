"""Eq. 6's gradients in a prompt's words."""

from __future__ import annotations

import pytest
import torch

from aai.adapt.gradients import word_gradients
from aai.errors import InputError
from aai.optim import LossScale
from aai.picture.model import Conditioning


def gradients(encode, words):
    def losses(cond):
        yield 1.0, cond.cross.square().sum()

    return word_gradients(encode, losses, words, LossScale(torch.float32), 1)


def test_a_word_that_one_encoder_cuts_off_stays_there():
    words = [torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)]
    loss, (read, cut) = gradients(lambda: Conditioning(2 * words[0][None, None]), words)
    assert loss == pytest.approx(12) and torch.equal(read, torch.full((3,), 8.0)) and not cut.any()


def test_a_word_that_no_encoder_reads_is_told():
    words = [torch.ones(3, requires_grad=True)]
    for cross in (torch.ones(1, 1, 3), torch.ones(1, 1, 3, requires_grad=True)):
        with pytest.raises(InputError, match="shorter template"):
            gradients(lambda cross=cross: Conditioning(1 * cross), words)
