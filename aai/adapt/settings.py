"""How a token is trained: what may be chosen, and what may not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import InputError

_OBJECTS = """a photo of a *|a rendering of a *|a cropped photo of the *|the photo of a *|a photo of a clean *
a photo of a dirty *|a dark photo of the *|a photo of my *|a photo of the cool *|a close-up photo of a *
a bright photo of the *|a cropped photo of a *|a photo of the *|a good photo of the *|a photo of one *
a close-up photo of the *|a rendition of the *|a photo of the clean *|a rendition of a *|a photo of a nice *
a good photo of a *|a photo of the nice *|a photo of the small *|a photo of the weird *|a photo of the large *
a photo of a cool *|a photo of a small *"""
_STYLES = """a painting in the style of *|a rendering in the style of *|a cropped painting in the style of *
the painting in the style of *|a clean painting in the style of *|a dirty painting in the style of *
a dark painting in the style of *|a picture in the style of *|a cool painting in the style of *
a close-up painting in the style of *|a bright painting in the style of *
a cropped painting in the style of *|a good painting in the style of *|a close-up painting in the style of *
a rendition in the style of *|a nice painting in the style of *|a small painting in the style of *
a weird painting in the style of *|a large painting in the style of *"""

TEMPLATES = {
    name: tuple(t for line in text.split("\n") for t in line.split("|"))
    for name, text in (("objects", _OBJECTS), ("styles", _STYLES))
}
"""The prompts of textual inversion (Gal et al. 2022, and everyone after), for a thing and for a style."""

NORMS = ("free", "soft", "pinned")
TIMESTEP_MODES = ("stratified", "antithetic", "uniform")


@dataclass(frozen=True)
class TrainSettings:
    """How a token is trained.

    steps, rate (Adam's), batch (latents in a step), seed; `template` is the prompt around `*`, or several, a
    line each, or the name of a set of TEMPLATES: "objects" or "styles". A step takes one of them at random.
    scale: "vocabulary" lets f_a enter with the mean length of the text encoder's words, "raw" as it is given:
    eq. 6 to the letter with an f_a of its encoder's own length (`hear`'s; CLAP's is one).
    rho: |f_adapter| is kept within rho times the length that f_a enters with; None sets no bound (eq. 6 to
    the letter).
    norm: how |e| is held to the length that f_a enters with, since a longer word shouts its prompt down:
    "free" not at all, "soft" draws it a tenth of the way back at each step, "pinned" puts it there.
    vectors: how many words' places the token takes.
    init: the spread of the initial f_adapter, as a share of the vocabulary's.
    timesteps: "stratified" spreads a batch's timesteps evenly, and the steps' between them; "antithetic"
    pairs t with its opposite; "uniform" draws each alone. `earliest` and `latest` bound them, as shares of
    the schedule (0 is the clean picture, 1 all noise).
    average: the share of an exponential moving average that each step keeps (0.99, say); the token is then
    the average. None takes the last step's.
    chunk: how many latents of a batch pass the U-Net at a time; 0 passes them together. Less memory, and the
    same token but for rounding.
    checkpointing: whether the U-Net's activations are computed again in the backward pass: much less memory,
    a third more time.
    validate: after how many steps the loss on fixed noise is measured; 0 never. The token is then the best
    one's. patience: after how many measurements without a better one training stops; 0 never.
    """

    steps: int = 500
    rate: float = 5e-3
    batch: int = 4
    seed: int = 0
    scale: str = "vocabulary"
    rho: float | None = 1.0
    vectors: int = 1
    template: str = "a photo of *"
    init: float = 0.1
    timesteps: str = "stratified"
    average: float | None = None
    norm: str = "free"
    earliest: float = 0.0
    latest: float = 1.0
    chunk: int = 0
    checkpointing: bool = False
    validate: int = 0
    patience: int = 0

    def __post_init__(self):
        checks = (
            (self.steps >= 1, f"{self.steps} steps train nothing: take 1 or more."),
            (0 < self.rate < torch.inf, f"A learning rate of {self.rate} cannot train: take one above 0."),
            (self.batch >= 1, f"A batch of {self.batch} is empty: take 1 or more."),
            (self.vectors >= 1, f"A sound token of {self.vectors} vectors is empty: take 1 or more."),
            (
                self.scale in ("vocabulary", "raw"),
                f"The scale '{self.scale}' is unknown: take vocabulary or raw.",
            ),
            (
                self.rho is None or self.rho > 0,
                f"rho = {self.rho} leaves f_adapter no room: take one above 0, or none.",
            ),
            (self.init >= 0, f"An initial spread of {self.init} is no spread: take 0 or more."),
            (
                self.timesteps in TIMESTEP_MODES,
                f"The timesteps '{self.timesteps}' are unknown: take stratified, antithetic or uniform.",
            ),
            (
                self.average is None or 0 <= self.average < 1,
                f"An average that keeps {self.average} is none: take a share of 0 or more and below 1.",
            ),
            (self.norm in NORMS, f"The norm '{self.norm}' is unknown: take free, soft or pinned."),
            (
                0 <= self.earliest < self.latest <= 1,
                f"Timesteps from {self.earliest} to {self.latest} are none: take shares between 0 and 1, "
                "the earliest below the latest.",
            ),
            (self.chunk >= 0, f"A chunk of {self.chunk} latents cannot be: take 0 or more."),
            (self.validate >= 0, f"Validation every {self.validate} steps cannot be: take 0 or more."),
            (self.patience >= 0, f"A patience of {self.patience} cannot be: take 0 or more."),
            (
                not self.patience or self.validate,
                "Stopping early needs a validation loss: set after how many steps it is measured.",
            ),
        )
        for holds, sentence in checks:
            if not holds:
                raise InputError(sentence)

    @property
    def templates(self) -> tuple[str, ...]:
        """The training prompts."""
        held = TEMPLATES.get(self.template.strip().lower())
        return held or tuple(line.strip() for line in self.template.splitlines() if line.strip())
