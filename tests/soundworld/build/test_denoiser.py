"""A few real training steps of SoundWorld's U-Net and of its flow transformer."""

import numpy as np
import pytest
import torch

from aai.soundworld.build import denoiser
from aai.soundworld.models import build_flow, build_unet


@pytest.mark.parametrize(
    ("build", "loss_of", "name"),
    [
        (build_unet, denoiser.v_loss, "conv_in.weight"),
        (build_flow, denoiser.flow_loss, "x_embedder.weight"),
    ],
)
def test_a_denoiser_trains_resumes_and_averages(
    build, loss_of, name, autoencoder, pictures, scenes, caption_encoder, tmp_path
):
    latents = denoiser.encode_pictures(autoencoder, pictures)
    states = denoiser.caption_states(caption_encoder, denoiser.captions_of(scenes, 1, seed=0), 1, seed=0)
    data = latents, states, caption_encoder.states([""], length=77)[0][0], tmp_path / "made.ckpt"
    steps = []

    def report(step, spent, loss):
        assert np.isfinite(loss)
        steps.append(step)
        if step in (2, 4):
            raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            denoiser.train_denoiser(build(), loss_of, *data, minutes=60, batch=2, report=report)
        assert not list(tmp_path.glob("*.part"))
    assert steps == [1, 2, 3, 4]
    made = denoiser.train_denoiser(build(), loss_of, *data, minutes=0)
    saved = torch.load(tmp_path / "made.ckpt", weights_only=True)
    torch.testing.assert_close(made.state_dict()[name], saved["average"][name])
    assert not torch.equal(saved["average"][name], saved["model"][name])


def test_captions_of_a_picture_are_together_and_their_words_stand_at_their_stars(caption_encoder, scenes):
    captions = denoiser.captions_of(scenes, 2, seed=1)
    assert len(captions) == 2 * len(scenes.scene)
    assert all(text.count("*") == len(words) for text, words in captions)
    chosen = [("a city", ()), ("* in a city", ("rain",)), ("* and *", ("rain", "a dog")), ("a dog", ())]
    states = denoiser.caption_states(caption_encoder, chosen, 2, seed=0)
    assert states.shape == (2, 2, 77, 192) and states.dtype == torch.float16
    assert torch.equal(states[0, 0], caption_encoder.states(["a city"], length=77)[0][0].half())
    assert not torch.equal(states[1, 0, 1], states[1, 0, 3])


def test_the_flow_loss_of_the_true_velocity_is_nothing(autoencoder, pictures):
    latents = denoiser.encode_pictures(autoencoder, pictures[:4])
    # Its own noise once more: what a perfect transformer would say.
    again = torch.Generator().manual_seed(3)
    torch.rand(4, generator=again)
    velocity = denoiser.packed(torch.randn(latents.shape, generator=again) - latents)

    class Perfect(torch.nn.Module):
        config = build_flow().config

        def forward(self, **_):
            return type("Output", (), {"sample": velocity})

    first = torch.Generator().manual_seed(3)
    assert denoiser.flow_loss(Perfect(), latents, torch.zeros(4, 77, 192), first) == 0
