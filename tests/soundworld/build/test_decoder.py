"""A few real training steps of the network that cleans SoundWorld's decoded pictures."""

import copy

import torch

from aai.soundworld.build.decoder import refine_autoencoder
from aai.soundworld.models import build_unet


def test_refining_takes_error_away(autoencoder, pictures):
    unet, states = build_unet().requires_grad_(False), torch.zeros(len(pictures), 1, 77, 192)
    # A new U-Net guesses next to nothing: its latents are the noisy ones, less bright.
    refined = copy.deepcopy(autoencoder)
    assert refine_autoencoder(refined, pictures, unet, states, steps=60, batch=8) > 0
    images = pictures[:8].float() / 127.5 - 1
    assert (refined.decode(autoencoder.encode(images)) - images).abs().mean() < 0.12
