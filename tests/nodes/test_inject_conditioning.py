"""Prompts with sound tokens through the node, in process."""

from __future__ import annotations

import pytest
import torch


def test_conditioning_carries_the_tokens_positions(train, run, small, pack):
    rain, dog = train(steps=1)[0], train(steps=1, name="dog", vectors=2)[0]
    (conditioning,) = run(
        "AAI_SoundTokenConditioning",
        clip=small.clip,
        token=rain,
        token_2=dog,
        prompt="a photo of * with <dog>",
    )
    cross, options = conditioning[0]
    assert cross.shape == (1, 77, 192) and options["pooled_output"].shape == (1, 192)
    (token_ids,) = options[pack.part("nodes.comfy.clip").TOKEN_IDS]
    assert pack.part("aai.prompt").token_positions(token_ids) == {"rain": [4], "dog": [6, 7]}
    with pytest.raises(pack.part("aai.errors").InputError, match="<cat>"):
        run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a photo of <cat>")


def test_a_conditioning_samples_in_core(train, run, small):
    import nodes

    token, _ = train(steps=1)
    (conditioning,) = run("AAI_SoundTokenConditioning", clip=small.clip, token=token, prompt="a photo of *")
    with torch.inference_mode():
        (negative,) = nodes.CLIPTextEncode().encode(small.clip, "")
        latent = {"samples": torch.zeros(2, 4, 8, 8)}
        (samples,) = nodes.KSampler().sample(
            small.model, 1, 2, 5.0, "euler", "normal", conditioning, negative, latent
        )
        (images,) = nodes.VAEDecode().decode(small.vae, samples)
    assert samples["samples"].shape == (2, 32, 8, 8) and images.shape == (2, 64, 64, 3)
