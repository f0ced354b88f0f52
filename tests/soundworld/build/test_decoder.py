"""A few real training steps of the network that cleans SoundWorld's decoded pictures."""

import copy

import pytest
import torch

from aai.soundworld.build.decoder import flow_guess, refine_autoencoder, unet_guess
from aai.soundworld.models import build_flow, build_unet


@pytest.fixture(scope="module")
def guesses():
    return unet_guess(build_unet().requires_grad_(False)), flow_guess(build_flow().requires_grad_(False))


def test_refining_takes_error_away(autoencoder, pictures, guesses):
    states = torch.zeros(len(pictures), 1, 77, 192)
    # New denoisers guess next to nothing: the latents are the noisy ones, less bright.
    refined = copy.deepcopy(autoencoder)
    assert refine_autoencoder(refined, pictures, guesses, states, steps=60, batch=8) > 0
    images = pictures[:8].float() / 127.5 - 1
    assert (refined.decode(autoencoder.encode(images)) - images).abs().mean() < 0.12


def test_a_guess_is_of_noisy_latents(guesses):
    latents = torch.randn(4, 32, 16, 16)
    for guess in guesses:
        guessed = guess(latents, torch.zeros(4, 77, 192))
        assert guessed.shape == latents.shape and not torch.allclose(guessed, latents)
        assert torch.corrcoef(torch.stack([guessed.flatten(), latents.flatten()]))[0, 1] > 0.6
