"""LATENTs of several pairs, and of pairs that are sampled again."""

from __future__ import annotations

import importlib

import pytest
import torch


def test_several_latents_are_several_pairs(small, edit, encoded, sampled, empty, assert_same):
    pairs = sampled(*edit(latent=empty(2)))
    assert len(pairs) == 4
    assert_same(pairs[[0, 2]], sampled(small.model, encoded("a city"), empty(2)))
    ancestral = sampled(*edit(latent=empty(2)), "euler_ancestral")
    alone = sampled(small.model, encoded("a city"), empty(2), "euler_ancestral")
    assert_same(ancestral[[0, 2]], alone)


def test_a_pair_goes_on_enlarged(pack, small, edit, encoded, sampled, pictures, assert_same):
    """Through pixels a pair forgets that it has one noise, and core's node says so again."""
    # It and core's nodes of latents import each other, and this way about it can be done.
    importlib.import_module("comfy_extras.nodes_post_processing")
    from comfy_extras.nodes_latent import LatentBatchSeedBehavior

    model, positive, latent = edit()
    drawn = pictures(sampled(model, positive, latent))
    with torch.inference_mode():
        enlarged = {"samples": small.vae.encode(drawn.repeat_interleave(2, 1).repeat_interleave(2, 2))}
        with pytest.raises(pack.part("aai.errors").InputError, match="LatentBatchSeedBehavior"):
            sampled(model, positive, enlarged, denoise=0.5)
        (again,) = LatentBatchSeedBehavior.execute(enlarged, "fixed").args
    pair = sampled(model, positive, again, denoise=0.5)
    source = {"samples": enlarged["samples"][:1]}
    assert_same(pair[:1], sampled(small.model, encoded("a city"), source, denoise=0.5))
    assert pair.shape[-1] == 16 and (pair[1] - pair[0]).abs().max() > 1e-3
