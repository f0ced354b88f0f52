"""The node of SoundWorld: four outputs that belong together."""

from __future__ import annotations

import torch


def test_the_node_loads_what_belongs_together(run):
    model, clip, vae, encoder = run("AAI_LoadSoundWorld")
    with torch.inference_mode():
        cross, _ = clip.encode_from_tokens(clip.tokenize("a city"), return_pooled=True)
        latents = vae.encode(torch.rand(1, 64, 64, 3))
    assert cross.shape[-1] == encoder.dim == 192 and "a dog" in encoder.labels
    assert model.model.latent_format.latent_channels == latents.shape[1] == 32
