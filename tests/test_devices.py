"""What only other devices show, as far as a processor can tell."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import torch

from aai.align.train import _precision
from aai.errors import InputError

ROOT = Path(__file__).parents[1]
DOUBLED = re.compile(r"(?:\.double\(\)|\.to\(torch\.float64\))\.(?:cpu\(|to\()")


@pytest.mark.parametrize("folder", ["aai", "nodes"])
def test_nothing_is_doubled_before_it_has_left_its_device(folder):
    """Apple's GPUs have no float64."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if DOUBLED.search(line)
    ]
    assert found == []


def test_a_device_without_autocast_trains_without_it(monkeypatch):
    """DirectML's torch refuses to make an autocast, be it switched off."""
    device = torch.device("privateuseone")
    assert isinstance(_precision(device, False), contextlib.nullcontext)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: kind != "privateuseone")
    with pytest.raises(InputError, match="'privateuseone' devices have no bfloat16"):
        _precision(device, True)
    assert isinstance(_precision(torch.device("cpu"), True), torch.autocast)
