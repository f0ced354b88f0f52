"""SoundWorld's picture models at work."""

import torch

from aai.soundworld.models import DIM, LATENT_CHANNELS, build_unet


def test_the_autoencoder_brings_pictures_back(autoencoder, pictures):
    images = pictures[:8].float() / 127.5 - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (8, 32, 16, 16)
    assert 0.5 < latents.std() < 2
    assert (autoencoder.decode(latents, refine=False) - images).abs().mean() < 0.12
    torch.testing.assert_close(autoencoder.decode(latents), autoencoder.decode(latents, refine=False))
    assert autoencoder.decode(torch.randn(1, 32, 8, 24)).shape == (1, 3, 64, 192)


def test_the_unet_takes_the_autoencoders_latents_and_the_towers_words():
    latents, states = torch.zeros(2, LATENT_CHANNELS, 16, 16), torch.zeros(2, 77, DIM)
    with torch.no_grad():
        assert build_unet()(latents, torch.tensor([1, 900]), states).sample.shape == latents.shape
