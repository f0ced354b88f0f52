"""Latents as a sequence of squares."""

import pytest
import torch

from aai.picture.packing import packed, place_ids, unpacked


def test_rows_are_flux_pipelines():
    diffusers = pytest.importorskip("diffusers")
    latents = torch.randn(2, 16, 8, 6)
    theirs = diffusers.FluxPipeline._pack_latents(latents, 2, 16, 8, 6)
    assert torch.equal(packed(latents), theirs)
    ids = diffusers.FluxPipeline._prepare_latent_image_ids(1, 4, 3, "cpu", torch.float32)
    assert torch.equal(place_ids(8, 6), ids)


def test_unpacking_is_the_inverse():
    latents = torch.randn(2, 32, 4, 10)
    assert torch.equal(unpacked(packed(latents), 4, 10), latents)
