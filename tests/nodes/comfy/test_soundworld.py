"""SoundWorld's weights in ComfyUI and in diffusers: the same numbers."""

from __future__ import annotations

import torch
from torch.testing import assert_close


def test_text_encoder_agrees_with_transformers(small):
    words = "a photo of heavy rain over a city"
    ids = small.tokenizer(words, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        cross, pooled = small.clip.encode_from_tokens(small.clip.tokenize(words), return_pooled=True)
        wanted = small.tower(ids).last_hidden_state
    assert_close(cross, wanted, atol=1e-4, rtol=0)
    assert pooled.shape == (1, 192)


def test_vae_encodes_and_decodes_as_the_autoencoder(small):
    images = torch.rand(2, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latents = small.vae.encode(images)
        assert_close(latents, small.autoencoder.encode(images.movedim(-1, 1) * 2 - 1), atol=1e-5, rtol=0)
        wanted = (small.autoencoder.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        assert_close(small.vae.decode(latents), wanted, atol=1e-5, rtol=0)
        assert small.vae.encode_tiled(images, tile_x=64, tile_y=64, overlap=16).shape == latents.shape
        assert small.vae.decode_tiled(latents, tile_x=8, tile_y=8, overlap=2).shape == images.shape


def test_empty_latents_get_the_models_channels(small):
    import comfy.sample

    fixed = comfy.sample.fix_empty_latent_channels(small.model, torch.zeros(1, 4, 16, 16))
    assert fixed.shape == (1, 32, 16, 16)


def test_the_preview_shows_each_patchs_mean_colour(small, pack):
    soundworld = pack.part("nodes.comfy.soundworld")
    factors, bias = map(torch.tensor, soundworld.rgb_factors(small.autoencoder))
    latents = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    shown = torch.einsum("bchw,cr->brhw", latents, factors) + bias[:, None, None]
    decoded = small.autoencoder.decode(latents, refine=False)
    assert_close(shown, torch.nn.functional.avg_pool2d(decoded, 8), atol=1e-5, rtol=0)


def test_missing_weights_are_named(pack, tmp_path):
    import pytest

    with pytest.raises(pack.part("aai.errors").InputError, match="unet.safetensors"):
        pack.part("nodes.comfy.soundworld").load(tmp_path)
