"""Public files: read as tensors alone, and what a model does not find in them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aai.encoders.published import fill, read_tensors
from aai.errors import InputError


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_tensors_alone_are_read_without_prefix(tmp_path):
    torch.save({"state_dict": {"module.weight": torch.ones(2)}, "epoch": 1}, tmp_path / "a.ckpt")
    assert torch.equal(read_tensors(tmp_path / "a.ckpt")["weight"], torch.ones(2))


def test_no_pickle_is_executed(tmp_path, capsys):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "trap": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(InputError, match=r"trap\.ckpt.*tensors alone"):
        read_tensors(tmp_path / "trap.ckpt")
    assert "executed" not in capsys.readouterr().out
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list\.pt.*more than named tensors"):
        read_tensors(tmp_path / "list.pt")


def test_what_is_missing_is_named_and_more_is_left():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    whole = {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
    fill(model, {**whole, "other": torch.zeros(1)}, "a.pt", "a model")
    assert (model[0].weight == 3).all()
    fill(model, {k: v for k, v in whole.items() if "num_batches" not in k}, "a.pt", "a model")
    with pytest.raises(InputError, match=r"lacks 1 of the 7 weights of a model \(0\.bias\); take that"):
        fill(model, {k: v for k, v in whole.items() if k != "0.bias"}, "a.pt", "a model")
