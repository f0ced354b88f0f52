"""The settings of a universal adapter's training, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .settings import check, templates_of


@dataclass(frozen=True)
class AdapterSettings:
    """How a universal adapter is trained.

    steps, rate (Adam's at first; it falls along a cosine), batch (sounds in a step, over all processes),
    seed; rho, vectors and template as a token's (`TrainSettings`). chunk: how many sounds of a batch pass the
    picture model at a time; 0: all. checkpointing: whether its activations are computed again in the backward
    pass. Less memory with both. near: the weight, beside eq. 6, of the square of how far a word is from the
    label's, or from that which the examples give (`Examples.words`), in the vocabulary's mean length; words
    that are nearer go better beside other words.
    """

    steps: int = 300
    rate: float = 1e-3
    batch: int = 8
    seed: int = 0
    rho: float | None = 1.0
    vectors: int = 1
    template: str = "a photo of *"
    chunk: int = 0
    checkpointing: bool = False
    near: float = 0.0

    def __post_init__(self):
        check(
            self,
            (self.vectors >= 1, f"A word of {self.vectors} vectors is empty: take 1 or more."),
            (self.chunk >= 0, f"A chunk of {self.chunk} sounds cannot be: take 0 or more."),
            (0 <= self.near < math.inf, f"A weight of {self.near:g} cannot be: take 0 or more."),
        )

    @property
    def templates(self) -> tuple[str, ...]:
        """The training prompts."""
        return templates_of(self.template)

    def as_begun(self) -> dict[str, object]:
        """What may not change where a training resumes."""
        return {name: getattr(self, name) for name in ("batch", "seed", "rho", "vectors", "template", "near")}
