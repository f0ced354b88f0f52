"""`bench memory --model transformers` counts what a step of training allocates."""

from __future__ import annotations

import pytest
import torch

from bench import memory_transformers, tiny_models


@pytest.fixture(scope="module")
def small(comfy):
    settings = tiny_models.settings_of(tiny_models.FAMILIES["Flux.1"])
    return memory_transformers.Published(
        "Flux", {**settings, "depth": 3}, (16, 16, 16), (20, tiny_models.WIDTH), {}, pooled=tiny_models.WIDTH
    )


@pytest.mark.parametrize("dtype", memory_transformers.KEPT.values())
def test_what_is_counted_without_numbers_is_what_computing_allocates(small, pack, dtype):
    counted = memory_transformers.training_bytes(pack.part, small, dtype)
    computed = memory_transformers.training_bytes(pack.part, small, dtype, device="cpu")
    assert counted == pytest.approx(computed, rel=0.002)


def test_a_larger_picture_takes_more_and_a_weight_its_bytes(small, pack):
    from dataclasses import replace

    def counted(family, kept):
        return memory_transformers.training_bytes(pack.part, family, memory_transformers.KEPT[kept])

    wide = replace(small, latent=(16, 32, 32))
    assert counted(wide, "bf16") > 1.5 * counted(small, "bf16")
    assert counted(small, "fp8") < counted(small, "bf16")


def test_what_is_freed_no_longer_counts():
    with memory_transformers.Allocations() as allocated:
        for _ in range(3):
            held = torch.ones(2**20)
            del held
        torch.ones(8)
    assert allocated.most == 4 * 2**20 and allocated.now == 0
