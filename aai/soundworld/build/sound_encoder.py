"""SoundWorld's CAV-MAE: its size, and its visual tower, which is trained against the frozen text tower."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...align.losses import info_nce, same_label_targets
from ...encoders.cavmae import CAVMAE, IMAGE_MEAN, IMAGE_STD, CAVMAEConfig
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...optim import set_rate
from ..captions import LEVELS, caption, level, phrase
from ..models import DIM, IMAGE_SIZE
from ..pictures import Scenes
from ..text import CaptionEncoder, label_phrases
from ..world import EVENTS

TRAIN_SEED = 1_000_000
CONFIG = CAVMAEConfig(
    dim=DIM,
    depth_a=4,
    depth_v=2,
    heads=4,
    frames=512,
    image_size=IMAGE_SIZE,
    seconds=5.0,
    fbank_mean=-7.5,
    fbank_std=4.5,
)


def level_vectors(caption_encoder: CaptionEncoder) -> Tensor:
    """The text vectors of every event at every level: [events, levels, D], of length one."""
    words = [phrase(event, (step + 0.5) / len(LEVELS)) for event in EVENTS for step in range(len(LEVELS))]
    return F.normalize(caption_encoder.sentence(words), dim=-1).unflatten(0, (len(EVENTS), len(LEVELS)))


def train_visual(
    model: CAVMAE,
    caption_encoder: CaptionEncoder,
    scenes: Scenes,
    pictures: Tensor,
    *,
    steps: int = 220,
    batch: int = 64,
    rate: float = 1e-3,
    tau: float = 0.05,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Trains the visual branch against frozen text vectors: whole captions, and the event's phrase alone."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vectors = level_vectors(caption_encoder)
    rows = np.array([i for i, event in enumerate(scenes.event) if event is not None])
    mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
    parameters = model.visual_parameters()
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.02)
    for step in range(steps):
        set_rate(optimizer, rate, step, steps, warmup=40)
        chosen = rng.choice(rows, batch)
        f_v = model.visual_features((pictures[chosen].float() / 255 - mean) / std)
        texts = [
            caption(scenes.scene[i], scenes.event[i], scenes.intensity[i], rng, starred=0).text
            for i in chosen
        ]
        event = torch.tensor([EVENTS.index(scenes.event[i]) for i in chosen])
        step_of = torch.tensor([level(scenes.intensity[i]) for i in chosen])
        loss = info_nce(f_v, caption_encoder.sentence(texts), tau)
        loss = loss + info_nce(
            f_v, vectors[event, step_of], tau, same_label_targets(event * len(LEVELS) + step_of)
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if report:
            report(step, loss.item())
    model.requires_grad_(False)


def nepers(decibels):
    """Decibels of power as an offset of log energies."""
    return decibels * (math.log(10) / 10)


def as_encoder(model: CAVMAE, caption_encoder: CaptionEncoder) -> CAVMAEEncoder:
    """The trained towers with the label table of SoundWorld's events."""
    words = label_phrases()
    return CAVMAEEncoder(
        model, list(words), caption_encoder.sentence(words), name="SoundWorld", padding="none"
    )
