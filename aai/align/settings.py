"""The settings of stage 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError

MOMENTA = ("audio", "literal", "literal_shared", "none")
TAU_RANGE = (0.001, 0.5)
SCHEDULES = ("cosine", "paper")


@dataclass(frozen=True)
class AlignSettings:
    """Eq. 1's settings. The defaults are for tuning a pretrained encoder; ALBEF gives alpha, m and the weight
    decay.

    `momentum`: which branch the momentum twin, whose similarities are the targets q, is a twin of: "audio",
    the audio branch; "literal", the frozen visual branch, so that L_t is 0; "literal_shared", a visual branch
    whose last block is the audio branch's own, and moves with it (the model needs `share_unified`, the
    batches `tokens_v`); "none": no twin and no L_t. `learn_tau` learns the temperature, starting at `tau`,
    within TAU_RANGE (ALBEF starts at 0.07). `multi_positive` shares a label's positives in L_c(A, T). `keep`
    is the share of patches that a training step encodes (patchout; 1 keeps all); the twin hears the same
    ones, so that p and q differ by their weights alone. alpha rises from 0 over `ramp_steps`, ALBEF's first
    epoch.

    `twin_every`: the twin's pass and L_t come every so many steps, where L_t counts as many times, so that
    the steps are eq. 1 on average; the twin then follows by m for each step that has passed.

    `batch` is the number of sounds that are contrasted with one another, over all processes. A step
    accumulates the gradients of `accumulate` such batches; the negatives of a sound are those of its own
    batch alone. `bf16` runs the audio tower in bfloat16 (autocast); weights and losses stay float32.

    `schedule`: "cosine" warms the rate up over `warmup` steps, lets it decay to a fiftieth, and clips
    gradients to norm 1; "paper" keeps it constant, without warm-up or clipping, as the code of the paper's
    "other settings as [19]" (CAV-MAE's fine-tuning) does for its ten epochs.

    Raises InputError for values that cannot train.
    """

    steps: int = 1000
    batch: int = 32
    rate: float = 5e-5
    weight_decay: float = 0.02
    tau: float = 0.05
    learn_tau: bool = False
    alpha: float = 0.4
    ramp_steps: int = 100
    m: float = 0.995
    momentum: str = "audio"
    multi_positive: bool = False
    audio_visual: bool = True
    audio_text: bool = True
    keep: float = 1.0
    warmup: int = 50
    seed: int = 0
    accumulate: int = 1
    bf16: bool = False
    schedule: str = "cosine"
    twin_every: int = 1

    def __post_init__(self) -> None:
        if self.momentum not in MOMENTA:
            raise InputError(f"There is no momentum '{self.momentum}': choose one of {', '.join(MOMENTA)}.")
        if self.schedule not in SCHEDULES:
            raise InputError(f"There is no schedule '{self.schedule}': choose {' or '.join(SCHEDULES)}.")
        if self.steps < 1 or self.batch < 2:
            raise InputError(
                f"{self.steps} steps of {self.batch} sounds teach nothing: take at least 1 step and 2 "
                "sounds, since a sound is told from the others of its batch."
            )
        if not (self.audio_visual or self.audio_text):
            raise InputError(
                "With neither L_c(A, V) nor L_c(A, T) there is nothing to train: keep audio_visual or "
                "audio_text."
            )
        for name in ("accumulate", "warmup", "twin_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} must be 1 or more: 1 does without.")
        if not 0 < self.rate < math.inf:
            raise InputError(f"A rate of {self.rate:g} cannot train: take one above 0.")
        if not TAU_RANGE[0] <= self.tau <= TAU_RANGE[1]:
            raise InputError(
                f"A tau of {self.tau:g} cannot train: take one from {TAU_RANGE[0]} to {TAU_RANGE[1]}."
            )
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"A weight_decay of {self.weight_decay:g} cannot train: take 0 or more.")
        for name, value in (("alpha", self.alpha), ("m", self.m)):
            if not 0 <= value <= 1:
                raise InputError(f"An {name} of {value:g} is no share: take one from 0 to 1.")
        if not 0 < self.keep <= 1:
            raise InputError(f"A share of {self.keep:g} of the patches cannot be heard: take 0 < keep <= 1.")
