"""The settings of a token's training, checked, and the prompts of textual inversion."""

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
"""The training prompts of textual inversion (Gal et al. 2022), for an object and for a style."""

NORMS = ("free", "soft", "pinned", "direction")
TIMESTEP_DRAWS = ("stratified", "antithetic", "uniform")


@dataclass(frozen=True)
class TrainSettings:
    """How a token is trained.

    steps, rate (Adam's for CLIP's words; for those of other text encoders in proportion to the spread of
    their numbers; where norm is "direction", a tenth of the angle of a step in radians), batch (latents in a
    step), seed; `template` is the prompt around `*`, or several, a line each, or the name of a set of
    TEMPLATES: "objects" or "styles". A step takes one of them at random.
    scale: with "vocabulary" f_a enters with the mean length of the text encoder's words, with "raw" as it is
    given: eq. 6 to the letter where f_a is not normalised (`encode_sound`'s; CLAP's always is).
    rho: |f_adapter| is kept within rho times the length that f_a enters with; None sets no bound (eq. 6 to
    the letter).
    norm: how |e| is kept at the length that f_a enters with, since a longer word dominates its prompt:
    "free" not at all, "soft" moves it a tenth of the way back at each step, "pinned" puts it there;
    "direction" trains the direction alone (`aai.adapt.direction`), whose prior around f_a `kappa` weighs.
    vectors: the number of positions that the token takes in a prompt.
    init: the standard deviation of the initial f_adapter, as a share of the vocabulary's.
    timesteps: "stratified" spreads a batch's timesteps evenly, and the steps' between them; "antithetic"
    pairs t with its opposite; "uniform" draws each alone.
    average: the decay of an exponential moving average (0.99, say), which is then the token. None takes the
    last step's.
    chunk: how many latents of a batch pass the U-Net at a time; 0: all. Less memory, and the same token up to
    rounding.
    checkpointing: whether the U-Net's activations are computed again in the backward pass: much less memory,
    a third more time.
    validate: every how many steps the loss on fixed noise is measured; 0: never. The token is then that of
    the best measurement. patience: training stops after so many measurements without a better one; 0: never.
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
    kappa: float = 1e-4
    chunk: int = 0
    checkpointing: bool = False
    validate: int = 0
    patience: int = 0

    def __post_init__(self):
        check(
            self,
            (self.vectors >= 1, f"A sound token of {self.vectors} vectors is empty: take 1 or more."),
            (
                self.scale in ("vocabulary", "raw"),
                f"The scale '{self.scale}' is unknown: take vocabulary or raw.",
            ),
            (self.init >= 0, f"An initial spread of {self.init} is no spread: take 0 or more."),
            (
                self.timesteps in TIMESTEP_DRAWS,
                f"The timesteps '{self.timesteps}' are unknown: take stratified, antithetic or uniform.",
            ),
            (
                self.average is None or 0 <= self.average < 1,
                f"An average that keeps {self.average} is none: take a share of 0 or more and below 1.",
            ),
            (self.norm in NORMS, f"The norm '{self.norm}' is unknown: take free, soft, pinned or direction."),
            (0 <= self.kappa < torch.inf, f"A prior of kappa = {self.kappa} is none: take 0 or more."),
            (self.chunk >= 0, f"A chunk of {self.chunk} latents cannot be: take 0 or more."),
            (self.validate >= 0, f"Validation every {self.validate} steps cannot be: take 0 or more."),
            (self.patience >= 0, f"A patience of {self.patience} cannot be: take 0 or more."),
            (
                not self.patience or self.validate,
                "Stopping early needs a validation loss: set after how many steps it is measured.",
            ),
        )

    @property
    def templates(self) -> tuple[str, ...]:
        """The training prompts."""
        return templates_of(self.template)


def check(settings, *more: tuple[bool, str]) -> None:
    """Raises InputError for steps, a rate, a batch or a bound that trains nothing, and with the sentence of
    the first of `more` that does not hold."""
    s = settings
    checks = (
        (s.steps >= 1, f"{s.steps} steps train nothing: take 1 or more."),
        (0 < s.rate < torch.inf, f"A learning rate of {s.rate} cannot train: take one above 0."),
        (s.batch >= 1, f"A batch of {s.batch} is empty: take 1 or more."),
        (s.rho is None or s.rho > 0, f"rho = {s.rho} leaves f_adapter no room: take one above 0, or none."),
    )
    for holds, sentence in (*checks, *more):
        if not holds:
            raise InputError(sentence)


def templates_of(template: str) -> tuple[str, ...]:
    """The training prompts of a setting: the set of that name, or its lines."""
    named = TEMPLATES.get(template.strip().lower())
    return named or tuple(line.strip() for line in template.splitlines() if line.strip())
