"""LATENTs of pairs, and of inverted pictures."""

from __future__ import annotations

import torch

from ...aai.inject.invert import Trajectory

TRAJECTORY = "aai_trajectory"
"""The key of a LATENT that holds an inverted picture's Trajectory, and the samples that it is the way of."""


def trajectory_of(latent: dict) -> Trajectory | None:
    """The way of a LATENT that is an inverted picture still: what other nodes have changed, has none."""
    trajectory, samples = latent.get(TRAJECTORY, (None, None))
    return trajectory if trajectory is not None and torch.equal(samples, latent["samples"]) else None


def paired(latent: dict, rows: int) -> dict:
    """A LATENT with each of its latents `rows` times, of one noise."""
    samples = latent["samples"]
    indices = latent.get("batch_index") or list(range(len(samples)))
    made = {
        **latent,
        "samples": samples.repeat_interleave(rows, 0),
        "batch_index": [i for i in indices for _ in range(rows)],
    }
    # The edit holds the way from here on.
    made.pop(TRAJECTORY, None)
    if "noise_mask" in latent:
        mask = latent["noise_mask"]
        mask = mask.repeat(-(-len(samples) // len(mask)), *[1] * (mask.ndim - 1))[: len(samples)]
        made["noise_mask"] = mask.repeat_interleave(rows, 0)
    return made
