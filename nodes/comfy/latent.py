"""LATENTs of pairs, and of inverted pictures."""

from __future__ import annotations

import torch

from ...aai.errors import InputError, logger
from ...aai.inject.invert import Trajectory

log = logger(__name__)

TRAJECTORY = "aai_trajectory"
"""The key of a LATENT that holds an inverted picture's Trajectory, and the samples that it leads to."""


def trajectory_of(latent: dict) -> Trajectory | None:
    """The trajectory of a LATENT that still is an inverted picture; None where other nodes have drawn
    something else from it. Raises InputError where they have repeated, cut or resized it."""
    trajectory, samples = latent.get(TRAJECTORY, (None, None))
    if trajectory is None or torch.equal(samples, latent["samples"]):
        return trajectory
    if samples.shape != latent["samples"].shape:
        raise InputError(
            "Another node has repeated, cut or resized the inverted picture's latent, and the way to it is "
            "lost: connect Invert Image's latent as it is."
        )
    log.warning("The latent is not the inverted picture's any more: what is in it now is edited.")
    return None


def paired(latent: dict, rows: int) -> dict:
    """A LATENT with each of its latents `rows` times, with one noise: their `batch_index` is the same."""
    samples = latent["samples"]
    indices = latent.get("batch_index") or list(range(len(samples)))
    repeated = {
        **latent,
        "samples": samples.repeat_interleave(rows, 0),
        "batch_index": [i for i in indices for _ in range(rows)],
    }
    # From here on the edit has the trajectory.
    repeated.pop(TRAJECTORY, None)
    if "noise_mask" in latent:
        mask = latent["noise_mask"]
        mask = mask.repeat(-(-len(samples) // len(mask)), *[1] * (mask.ndim - 1))[: len(samples)]
        repeated["noise_mask"] = mask.repeat_interleave(rows, 0)
    return repeated
