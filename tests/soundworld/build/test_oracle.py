"""A few real training steps of the oracle."""

import numpy as np
import torch

from aai.soundworld.build.oracle import train_oracle
from aai.soundworld.oracle import Oracle
from aai.soundworld.pictures import event_mask
from aai.soundworld.world import EVENTS, SCENES


def test_the_oracle_learns_to_see(pictures, scenes):
    masks = torch.stack(
        [
            torch.from_numpy(event_mask(*row, 64))
            for row in zip(scenes.scene, scenes.event, scenes.intensity, scenes.seed)
        ]
    )
    events = torch.tensor([len(EVENTS) if e is None else EVENTS.index(e) for e in scenes.event])
    places = torch.tensor([SCENES.index(s) for s in scenes.scene])
    losses = []
    oracle = train_oracle(
        pictures,
        masks,
        events,
        places,
        torch.tensor(scenes.intensity),
        steps=50,
        batch=16,
        report=lambda step, loss: losses.append(loss),
    )
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    grades = oracle.grade(torch.rand(2, 3, 96, 160))
    assert len(grades.events) == 2 and grades.masks.shape == (2, 64, 64)
    assert all(0 <= i <= 1 for i in grades.intensities)
    assert isinstance(oracle, Oracle)
