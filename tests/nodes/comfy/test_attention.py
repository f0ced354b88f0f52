"""Injection in ComfyUI's attention, beside patches of others."""

from __future__ import annotations

import pytest
import torch

STEPS, SEED = 4, 7


def test_little_memory_splits_the_batch(small, edit, sampled, monkeypatch, assert_same):
    whole = sampled(*edit())
    monkeypatch.setattr(type(small.model.model), "memory_required", lambda *_, **__: 1e18)
    assert_same(sampled(*edit()), whole)


def test_patches_of_others_stay(small, edit, sampled, assert_same):
    plain = sampled(*edit())
    calls = []

    def replaced(q, k, v, options):
        from comfy.ldm.modules.attention import optimized_attention

        calls.append(len(q))
        return 0.5 * optimized_attention(q, k, v, options["n_heads"])

    def patched(n, context, value, options):
        calls.append(-len(n))
        return n, context, value

    model = small.model.clone()
    model.set_model_attn2_replace(replaced, "input", 1)
    model.set_model_attn1_patch(patched)
    found = sampled(*edit(model=model))
    # The other's patch sees the whole batch, pair and negative prompt, once a step.
    assert calls.count(4) == STEPS and set(calls) == {4, -4}
    assert not torch.allclose(found, plain, atol=1e-3)
    silent = sampled(*edit(model=model, scale="0"))
    assert_same(silent[1:], silent[:1])


def lengthened(small, of):
    """The model beside an attn2 patch that makes another context and value of each."""
    model = small.model.clone()
    model.set_model_attn2_patch(lambda n, context, value, options: (n, of(context), of(value)))
    return model


def test_a_patch_that_repeats_the_conditioning_changes_no_edit(small, edit, sampled, assert_same):
    given = dict(scale="0.5", blend_words="*", blend_start=0.0)
    twice = edit(model=lengthened(small, lambda x: x.repeat(1, 2, 1)), **given)
    assert_same(sampled(*twice), sampled(*edit(**given)))


@pytest.mark.parametrize(
    "of",
    [
        lambda x: torch.cat([x, x[:, :4]], 1),
        lambda x: torch.cat([x, x.flip(1)], 1),
        lambda x: x.repeat_interleave(2, 0),
    ],
    ids=["longer", "another prompt", "more rows"],
)
def test_a_patch_that_changes_the_conditioning_is_refused(pack, run, small, edit, sampled, of):
    model, positive, latent = edit(model=lengthened(small, of), blend_words="*")
    watched = run("AAI_AttentionHeatmap", model=model, conditioning=positive)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="take that node off this model"):
        sampled(watched, positive, latent)


def test_a_lora_stays(small, edit, encoded, sampled, empty, assert_same):
    key = next(k for k in small.model.model.state_dict() if k.endswith("attn2.to_v.weight"))
    weight = small.model.model.state_dict()[key]
    model = small.model.clone()
    model.add_patches({key: (0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)),)})
    pair = sampled(*edit(model=model))
    alone = sampled(model, encoded("a city"), empty())
    assert_same(pair[:1], alone)
    assert not torch.allclose(alone, sampled(small.model, encoded("a city"), empty()), atol=1e-3)


def test_blend_words_of_an_area_are_refused(pack, core, edit, sampled):
    """Its first layer has 8 x 8 places, as many as the one that tells of the whole picture."""
    model, positive, latent = edit(blend_words="*", latent={"samples": torch.zeros(1, 32, 16, 16)})
    area = core.ConditioningSetArea().append(positive, 64, 64, 0, 0, 1.0)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="conditioning without areas"):
        sampled(model, area, latent)
