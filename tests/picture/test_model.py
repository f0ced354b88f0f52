"""Conditionings together, a vocabulary's statistics, and a U-Net's fingerprint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.picture.model import Conditioning, fingerprint, stacked, vocabulary_statistics


@pytest.fixture
def parts(make_parts):
    return make_parts()


@pytest.fixture
def model(parts):
    return DiffusersPictureModel(**vars(parts))


def row(length, number, pooled=True):
    cross = torch.arange(length).float()[None, :, None] + 100 * number
    return Conditioning(cross, torch.tensor([[float(number)]]) if pooled else None, ((number,) * length,))


def test_a_shorter_conditioning_is_repeated_beside_a_longer():
    cond = stacked([row(2, 1), row(3, 2)], None)
    assert (
        cond.cross[0, :, 0].tolist() == [100, 101] * 3 and cond.cross[1, :, 0].tolist() == [200, 201, 202] * 2
    )
    assert cond.token_ids == ((1, 1), (2, 2, 2)) and cond.pooled.flatten().tolist() == [1, 2]


@pytest.mark.parametrize("pooled", [0, 1])
def test_one_rows_pooled_embedding_may_be_all_rows(pooled):
    assert stacked([row(2, 1), row(2, 2)], pooled).pooled.flatten().tolist() == [pooled + 1] * 2
    assert stacked([row(2, 1, False), row(2, 2, False)]).pooled is None


def test_a_fingerprint_is_of_the_layout_and_the_first_weights():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    name = fingerprint(net)
    with torch.no_grad():
        net[1].weight += 1
    assert fingerprint(net) == name == fingerprint(net.to(torch.float16).float())
    assert fingerprint(net, net[0].weight + 1) != name
    assert fingerprint(nn.Sequential(net[0])) != name


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf")])
def test_a_vocabulary_without_numbers_is_refused(number):
    with pytest.raises(InputError, match="cannot be read as numbers"):
        vocabulary_statistics(lambda ids: torch.full((len(ids), 2), number), 3, torch.device("cpu"))


class WithoutFloat64(torch.Tensor):
    """As on MPS: no float64, until it is brought to the CPU."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_words_are_read_where_there_is_no_float64(model, parts):
    table = parts.text_encoder.get_input_embeddings()
    found = vocabulary_statistics(
        lambda ids: table(ids).as_subclass(WithoutFloat64), table.num_embeddings, torch.device("cpu")
    )
    assert found == model.text_encoders["clip_l"]


def test_a_model_keeps_its_fingerprint_where_bfloat16_rounds_its_weights(model, make_parts):
    name = model.fingerprint
    assert fingerprint(copy.deepcopy(model.unet).to(torch.bfloat16)) != name
    assert model.to(torch.bfloat16).fingerprint == name == copy.deepcopy(model).fingerprint
    # Its numbers stay rounded, and it is the same model.
    assert model.to("cpu", torch.float32).fingerprint == name
    assert DiffusersPictureModel(**vars(make_parts(seed=1))).to(torch.bfloat16).fingerprint != name
