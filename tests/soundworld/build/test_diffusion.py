"""A few real training steps of SoundWorld's U-Net and of its autoencoder's refining network."""

import copy

import numpy as np
import pytest
import torch

from aai.soundworld.build import diffusion
from aai.soundworld.models import build_unet


def test_refining_takes_error_away(autoencoder, pictures):
    unet, states = build_unet().requires_grad_(False), torch.zeros(len(pictures), 1, 77, 192)
    # A new U-Net guesses next to nothing: its latents are the noisy ones, less bright.
    refined = copy.deepcopy(autoencoder)
    assert diffusion.refine_autoencoder(refined, pictures, unet, states, steps=60, batch=8) > 0
    images = pictures[:8].float() / 127.5 - 1
    assert (refined.decode(autoencoder.encode(images)) - images).abs().mean() < 0.12


def test_the_unet_trains_resumes_and_averages(autoencoder, pictures, scenes, caption_encoder, tmp_path):
    latents = diffusion.encode_pictures(autoencoder, pictures)
    states = diffusion.caption_states(caption_encoder, scenes, 1, seed=0)
    empty = caption_encoder.states([""], length=77)[0][0]
    steps = []

    def report(step, spent, loss):
        assert np.isfinite(loss)
        steps.append(step)
        if step in (2, 4):
            raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            diffusion.train_unet(latents, states, empty, tmp_path, minutes=60, batch=2, report=report)
        assert not list(tmp_path.glob("*.part"))
    assert steps == [1, 2, 3, 4]
    made = diffusion.train_unet(latents, states, empty, tmp_path, minutes=0)
    saved = torch.load(tmp_path / "unet.ckpt", weights_only=True)
    name = "conv_in.weight"
    torch.testing.assert_close(made.state_dict()[name], saved["average"][name])
    assert not torch.equal(saved["average"][name], saved["model"][name])
