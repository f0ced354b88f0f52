"""Flow Edit's pictures between two samplers: KSampler (Advanced) hands on a latent, and nothing beside it.

Where an edit ends above sigma 0, as with Wan 2.2's first model, the next sampler needs the source as well.
What is left for it is found again by what the latent holds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

KEPT = 4
CLOSE = 1e-2
"""How far a latent may be from itself after it has gone out of a model's scale, and into it again."""


@dataclass(frozen=True, eq=False)
class Unfinished:
    """An edit as far as it has come: the edited latents and their source [B, C, ...], on the CPU, and the
    state of what draws its noise."""

    edited: Tensor
    source: Tensor
    noise: Tensor

    def is_of(self, latent: Tensor) -> bool:
        """Whether a latent is what this edit has come to."""
        same = latent.shape == self.edited.shape
        return same and torch.allclose(latent.to(self.edited), self.edited, rtol=CLOSE, atol=CLOSE)


_left: deque[Unfinished] = deque(maxlen=KEPT)


def leave(edited: Tensor, source: Tensor, generator: torch.Generator) -> None:
    """Keeps an edit that is not finished for the sampler that goes on with it."""
    there = begun(edited)
    if there is not None:
        _left.remove(there)
    _left.append(Unfinished(edited.cpu().clone(), source.cpu().clone(), generator.get_state()))


def begun(latent: Tensor) -> Unfinished | None:
    """The edit that has come to this latent, if one has."""
    return next((left for left in _left if left.is_of(latent)), None)
