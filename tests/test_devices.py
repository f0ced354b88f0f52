"""What only other devices show, as far as a processor can tell."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import torch

from aai.errors import InputError
from aai.precision import autocast, has_bfloat16

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


def test_a_device_without_autocast_trains_without_it():
    """DirectML's torch refuses to make an autocast, be it switched off."""
    device = torch.device("privateuseone")
    assert isinstance(autocast(device, False), contextlib.nullcontext)
    with pytest.raises(InputError, match="'privateuseone' devices have no bfloat16"):
        autocast(device, True)
    assert isinstance(autocast(torch.device("cpu"), True), torch.autocast)


def test_a_device_says_whether_it_has_bfloat16(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bfloat16(cpu)
    for capability, there in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, told=capability: told)
        assert has_bfloat16(torch.device("cuda", 1)) == there
