"""A sound token's training on SoundWorld, latents encoded once, against pictures encoded at every step."""

from __future__ import annotations

import torch

from aai import soundworld
from aai.adapt.train import TrainSettings, train_token

STEPS = 20


def rows(measure) -> list[dict]:
    model = soundworld.load_picture_model()
    f_a, images = torch.randn(192), soundworld.library(4)
    settings = TrainSettings(steps=STEPS)

    def encoding_each_step() -> None:
        train_token(model, f_a, images, settings, callback=lambda *_: model.encode_images(images))

    seconds = measure(
        {"ours": lambda: train_token(model, f_a, images, settings), "each step": encoding_each_step}
    )
    return [
        {
            "what": "a training step, latents encoded once",
            "value": seconds["ours"] / STEPS,
            "unit": "s",
            "ratio": seconds["each step"] / seconds["ours"],
        },
        {
            "what": "a training step, pictures encoded every step",
            "value": seconds["each step"] / STEPS,
            "unit": "s",
            "ratio": 1.0,
        },
    ]
