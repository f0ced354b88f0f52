"""Adapt: eq. 6. f_adapter is trained until "a photo of *" reconstructs a few reference pictures.

Everything else is frozen, the pictures' latents are encoded once, and the gradient reaches f_adapter alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from ..picture.model import PictureModel
from ..prompt import Prompt
from ..token import SoundToken, word_vectors

TIMESTEPS = 1000


@dataclass(frozen=True)
class TrainSettings:
    """How a token is trained.

    steps, rate (Adam's), batch (latents in a step), seed; `template` is the prompt around `*`.
    scale: "vocabulary" lets f_a enter with the mean length of the text encoder's words, "raw" as it is.
    rho: |f_adapter| is kept within rho times the length that f_a enters with; None sets no bound (eq. 6 to
    the letter).
    vectors: how many words' places the token takes.
    init: the spread of the initial f_adapter, as a share of the vocabulary's.
    timesteps: "stratified" spreads a batch's timesteps evenly, and the steps' between them; "antithetic"
    pairs t with its opposite; "uniform" draws each alone.
    average: the share of an exponential moving average that each step keeps (0.99, say); the token is then
    the average. None takes the last step's.
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
                self.timesteps in ("stratified", "antithetic", "uniform"),
                f"The timesteps '{self.timesteps}' are unknown: take stratified, antithetic or uniform.",
            ),
            (
                self.average is None or 0 <= self.average < 1,
                f"An average that keeps {self.average} is none: take a share of 0 or more and below 1.",
            ),
        )
        for holds, sentence in checks:
            if not holds:
                raise InputError(sentence)


@dataclass(frozen=True)
class TrainResult:
    """The token, the loss at each step, and the token as it was after each step of `snapshots`."""

    token: SoundToken
    losses: list[float]
    snapshots: dict[int, SoundToken] = field(default_factory=dict)


def train_token(
    model: PictureModel,
    f_a: Tensor,
    images: Tensor,
    settings: TrainSettings | None = None,
    name: str = "sound",
    *,
    callback: Callable[[int, int, float], None] | None = None,
    on_stop: Callable[[TrainResult], None] | None = None,
    loudness: float | None = None,
    provenance: Mapping[str, str] | None = None,
    snapshots: Sequence[int] = (),
) -> TrainResult:
    """Trains f_adapter (eq. 6) for a sound's embedding f_a [dim].

    images: pictures [N, 3, H, W] in [0, 1], or their latents [N, C, h, w] (told apart by the three channels).
    `snapshots` are steps after which the token is also kept as it is then; it is what a training of so many
    steps with the same seed gives. callback(step, steps, loss) may raise to cancel; `on_stop` then receives
    what is trained so far, before the exception goes on. The model is one that gradients pass: ComfyUI's
    inside its `training()`. The same model, settings and inputs give the same token, bit for bit. Raises
    InputError for an f_a of another width than the text encoder's words, and for no pictures.
    """
    settings = settings or TrainSettings()
    _check(model, f_a, images, settings)
    with torch.inference_mode(False), torch.enable_grad():
        # Autograd refuses tensors that were made in inference mode.
        f_a, images = f_a.detach().float().cpu().clone(), images.detach().clone()
        latents = model.encode_images(images) if images.shape[1] == 3 else images
        run = _Run(model, f_a, latents.to(model.device), settings, name)
        steps_of_token = {"template": settings.template, "references": str(len(images)), **(provenance or {})}

        def result() -> TrainResult:
            notes = {**steps_of_token, "steps": str(len(run.losses)), "seed": str(settings.seed)}
            return TrainResult(run.token(loudness, notes), list(run.losses), kept)

        kept: dict[int, SoundToken] = {}
        try:
            for step in range(settings.steps):
                loss = run.step()
                if step + 1 in snapshots:
                    kept[step + 1] = result().token
                if callback is not None:
                    callback(step + 1, settings.steps, loss)
        except BaseException:
            if on_stop is not None and run.losses:
                on_stop(result())
            raise
        return result()


def _check(model: PictureModel, f_a: Tensor, images: Tensor, settings: TrainSettings) -> None:
    if f_a.ndim != 1 or not torch.isfinite(f_a).all() or not f_a.any():
        raise InputError(
            f"The sound embedding of shape {list(f_a.shape)} is no vector with finite numbers: hear the "
            "sound again."
        )
    for key, words in model.text_encoders.items():
        if len(f_a) != words.dim:
            raise InputError(
                f"The sound embedding has {len(f_a)} numbers, but this model's text encoder {key} has "
                f"words of {words.dim}: "
                "use a sound encoder that was aligned with it."
            )
    if images.ndim != 4:
        raise InputError(
            f"Reference pictures of shape {list(images.shape)} cannot be read: give [N, 3, height, width]."
        )
    if not len(images):
        raise InputError("There are no reference pictures: a sound token needs some, 3 to 5 or more.")
    if not torch.isfinite(images).all():
        raise InputError("A reference picture holds numbers that are not finite: leave it out.")


class _Run:
    """One training run: f_adapter per text encoder, its optimizer, and its own random numbers."""

    def __init__(self, model: PictureModel, f_a: Tensor, latents: Tensor, settings: TrainSettings, name: str):
        self.model, self.f_a, self.latents, self.settings = model, f_a, latents, settings
        self.generator = torch.Generator().manual_seed(settings.seed % 2**63)
        self.scale: dict[str, float | None] = {}
        self.radius: dict[str, float] = {}
        self.f_adapter: dict[str, Tensor] = {}
        for key, words in model.text_encoders.items():
            length = words.mean_norm if settings.scale == "vocabulary" else float(f_a.norm())
            self.scale[key] = length if settings.scale == "vocabulary" else None
            self.radius[key] = torch.inf if settings.rho is None else settings.rho * length
            start = (
                torch.randn(settings.vectors, words.dim, generator=self.generator) * words.std * settings.init
            )
            self.f_adapter[key] = start.to(model.device).requires_grad_()
        self.f_a = f_a.to(model.device)
        self._project()
        self.average = {k: v.detach().clone() for k, v in self.f_adapter.items()}
        self.optimizer = torch.optim.Adam(self.f_adapter.values(), lr=settings.rate)
        self.prompt = Prompt(settings.template, (self.token(None, {}, name),))
        if not self.prompt.used():
            raise InputError(
                f"The training prompt '{settings.template}' has no * for the sound: write one, as in a "
                "photo of *."
            )
        self.times = _timesteps(settings, self.generator)
        self.rows = _rows(len(latents), settings.batch, self.generator)
        self.name = name
        self.losses: list[float] = []

    def step(self) -> float:
        """One step of Adam on eq. 6's loss; returns the loss."""
        latents = self.latents[next(self.rows).to(self.latents.device)]
        noise = torch.randn(latents.shape, generator=self.generator).to(latents.device)
        vectors = {k: word_vectors(self.f_a, self.scale[k], v) for k, v in self.f_adapter.items()}
        cond = self.model.encode_prompt(self.prompt, {self.prompt.tokens[0].name: vectors})
        loss = self.model.denoising_loss(latents, cond, noise, next(self.times).to(latents.device))
        value = float(loss.detach())
        if not torch.isfinite(loss.detach()):
            raise InputError(
                f"The training diverged at step {len(self.losses) + 1}: lower the rate or set a rho."
            )
        gradients = torch.autograd.grad(loss, list(self.f_adapter.values()))
        for parameter, gradient in zip(self.f_adapter.values(), gradients):
            parameter.grad = gradient
        self.optimizer.step()
        self._project()
        self.losses.append(value)
        if self.settings.average is not None:
            # Early on a long average would still hold the random start.
            keep = min(self.settings.average, len(self.losses) / (len(self.losses) + 9))
            for key, value_now in self.f_adapter.items():
                self.average[key].lerp_(value_now.detach(), 1 - keep)
            self._project(self.average)
        return value

    def token(
        self, loudness: float | None, provenance: Mapping[str, str], name: str | None = None
    ) -> SoundToken:
        held = self.f_adapter if self.settings.average is None else self.average
        f_adapter = {k: v.detach().cpu().clone() for k, v in held.items()}
        f_a = self.f_a.cpu()
        vectors = {k: word_vectors(f_a, self.scale[k], v) for k, v in f_adapter.items()}
        return SoundToken(
            name or self.name, vectors, f_a, f_adapter, dict(self.scale), loudness, dict(provenance)
        )

    @torch.no_grad()
    def _project(self, held: Mapping[str, Tensor] | None = None) -> None:
        for key, rows in (held or self.f_adapter).items():
            length = rows.norm(dim=1, keepdim=True)
            rows.mul_((self.radius[key] / length.clamp(min=1e-12)).clamp(max=1))


def _rows(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches [batch] of picture numbers: every picture once in random order, then again."""
    waiting = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def _timesteps(settings: TrainSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches [batch] of timesteps, each uniform over 0..999 in the long run."""
    batch = settings.batch
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    while True:
        if settings.timesteps == "stratified":
            # Evenly spaced within a batch; the golden ratio spreads the batches of any number of steps.
            shift = (shift + 0.6180339887498949) % 1
            places = (torch.arange(batch, dtype=torch.float64) + shift) / batch
        else:
            places = torch.rand(batch, generator=generator, dtype=torch.float64)
            if settings.timesteps == "antithetic":
                places[batch - batch // 2 :] = 1 - places[: batch // 2]
        yield (places * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)
