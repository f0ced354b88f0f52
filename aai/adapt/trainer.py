"""One training run of a token: f_adapter per text encoder, its optimizer, and its own random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..embedding import CLIPS
from ..errors import InputError
from ..optim import LossScale
from ..picture.model import Conditioning, PictureModel, TextEncoderInfo
from ..prompt import Prompt
from ..token import SoundToken, Translation, word_vectors
from .base import base_of, in_words, is_other_base
from .direction import DirectionalDescent
from .gradients import word_gradients
from .sampling import at, picture_rows, timesteps
from .settings import TrainSettings

VALIDATED = 8
"""Latents of a validation, at evenly spaced timesteps and under fixed noise."""
PULL = 0.1
"""The share of the way back to its length that a soft norm moves a word at each step."""
CLIP_SPREAD = 0.014
"""The spread of the numbers of CLIP's words, which a learning rate is for."""
TURN = 10.0
"""The angle in radians that a step of norm "direction" turns a word by, for a rate of 1."""
SETTLING = 10
"""Steps that the running mean of the losses covers."""


class TokenTrainer:
    """A training from step 0, or from where `resume` was stopped.

    `step()` trains, `validate()` measures, `token()` gives the token so far: the last step's vectors, their
    average, or with `best=True` the best ones (by validation where there is one, else by a running mean of
    the losses).
    """

    def __init__(
        self,
        model: PictureModel,
        f_a: Tensor,
        translation: Mapping[str, Translation],
        latents: Tensor,
        settings: TrainSettings,
        name: str,
        resume: SoundToken | None = None,
    ):
        if resume is not None:
            check_resumable(resume, model)
            f_a = resume.fitted(f_a)
        self.model, self.f_a, self.latents, self.settings, self.name = model, f_a, latents, settings, name
        self.translation = dict(translation)
        generator = torch.Generator().manual_seed(settings.seed % 2**63)
        self.sounds: dict[str, Tensor] = {}
        self.scale: dict[str, float | None] = {}
        self.length: dict[str, float] = {}
        self.f_adapter: dict[str, Tensor] = {}
        for key, vocabulary in model.text_encoders.items():
            sound = self.translation[key](f_a) if key in self.translation else f_a
            self.scale[key] = vocabulary.mean_norm if settings.scale == "vocabulary" else None
            self.length[key] = float(sound.norm()) if self.scale[key] is None else vocabulary.mean_norm
            self.sounds[key] = sound.to(model.device)
            start = torch.randn(settings.vectors, vocabulary.dim, generator=generator)
            start = start * vocabulary.std * settings.init
            self.f_adapter[key] = start.to(model.device).requires_grad_()
        self.project(self.f_adapter)
        self.optimizer = self._optimizer()
        self.times = timesteps(settings, generator)
        self.rows = picture_rows(len(latents), settings.batch, generator)
        self.generator = generator
        self.losses: list[float] = []
        self.resumed_at = 0
        self.loss_scale = LossScale(model.dtype)
        self.running, self.best_loss = 0.0, torch.inf
        self.measured_at, self.waited = -1, 0
        self.average = {k: v.detach().clone() for k, v in self.f_adapter.items()}
        if resume is not None:
            self._resume(resume)
        self.best = self._current()
        if resume is not None and settings.validate and resume.measured:
            self._resume_best(resume)
        self.prompts = [Prompt(text, (self.token(None, {}),)) for text in settings.templates]
        check_prompts(self.prompts, settings.template)
        # A generator of its own, so that templates change no other draw.
        self.choices = torch.Generator().manual_seed((settings.seed + 1) % 2**63)
        for _ in range(self.resumed_at):
            self._draw()

    @property
    def steps(self) -> int:
        """How many steps are done, those before a resumption included."""
        return self.resumed_at + len(self.losses)

    def step(self) -> float:
        """One step of Adam on eq. 6's loss; returns the loss. Raises Diverged where it is no number."""
        prompt, rows, noise, t = self._draw()
        value = self._backward(prompt, self.latents[rows.to(self.latents.device)], noise, t)
        self._remember(value)
        self.optimizer.step()
        self.project(self.f_adapter)
        if self.settings.average is not None:
            # Early on a long average would still hold the random start.
            keep = min(self.settings.average, self.steps / (self.steps + 9))
            for key, value_now in self.f_adapter.items():
                self.average[key].lerp_(value_now.detach(), 1 - keep)
            self.project(self.average)
        return value

    def measure_best(self) -> None:
        """Measures the best that a resumed training has brought anew: with other pictures, another seed or
        template its loss is another."""
        if self.measured_at >= 0:
            self.best_loss = self._validated(self.best)

    def is_due(self) -> bool:
        """Whether a validation is due: before the first step, every so many steps, and after the last."""
        every = self.settings.validate
        if not every or self.measured_at == self.steps:
            return False
        return self.measured_at < 0 or self.steps % every == 0 or self.steps == self.settings.steps

    def validate(self) -> float:
        """The loss of the token so far on fixed noise and timesteps."""
        return self._validated(self._current())

    @torch.no_grad()
    def _validated(self, f_adapter: Mapping[str, Tensor]) -> float:
        count, seed = VALIDATED, (self.settings.seed + 2) % 2**63
        noise = torch.randn(count, *self.latents.shape[1:], generator=torch.Generator().manual_seed(seed))
        t = at((torch.arange(count) + 0.5) / count)
        rows = torch.arange(count) % len(self.latents)
        adapters = {k: v.to(self.model.device) for k, v in f_adapter.items()}
        cond = self._encode(self.prompts[0], adapters)
        total = 0.0
        for part in torch.arange(count).split(self._chunk()):
            latents = self.latents[rows[part].to(self.latents.device)]
            loss = self._loss(latents, cond, noise[part], t[part])
            total += float(loss) * len(part) / count
        return total

    def note_validation(self, loss: float) -> None:
        """Keeps the token so far where its validation loss is the lowest, else counts that it was not."""
        self.measured_at = self.steps
        if not loss < self.best_loss:
            self.waited += 1
            return
        self.best_loss, self.best, self.waited = loss, self._current(), 0

    def token(self, loudness: float | None, provenance: Mapping[str, str], best: bool = False) -> SoundToken:
        f_adapter = {k: v.cpu().clone() for k, v in (self.best if best else self._current()).items()}
        vectors = {k: word_vectors(self.sounds[k].cpu(), self.scale[k], v) for k, v in f_adapter.items()}
        return SoundToken(
            self.name,
            vectors,
            self.f_a.cpu(),
            f_adapter,
            dict(self.scale),
            loudness,
            dict(provenance),
            self.translation,
            self._momentum(),
            self._measured(),
        )

    @torch.no_grad()
    def project(self, adapters: Mapping[str, Tensor]) -> None:
        """Brings |e| to its length as `norm` says, then |f_adapter| within rho, in place."""
        for key, rows in adapters.items():
            length, sound = self.length[key], self._entering(key)
            if self.settings.norm != "free":
                e = sound + rows
                size = e.norm(dim=1, keepdim=True).clamp(min=1e-12)
                share = PULL if self.settings.norm == "soft" else 1.0
                rows.copy_(e * (1 + share * (length / size - 1)) - sound)
            if self.settings.rho is None:
                continue
            radius = self.settings.rho * length
            if self.settings.norm in ("pinned", "direction"):
                rows.copy_(_turned(sound, sound + rows, length, radius) - sound)
            else:
                size = rows.norm(dim=1, keepdim=True)
                rows.mul_((radius / size.clamp(min=1e-12)).clamp(max=1))

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.settings.norm == "direction":
            groups = [
                {"params": [rows], "lr": self.settings.rate * TURN, "sound": self._entering(key),
                 "length": self.length[key]}
                for key, rows in self.f_adapter.items()
            ]  # fmt: skip
            return DirectionalDescent(groups, self.settings.kappa)
        groups = [
            {"params": [rows], "lr": self.settings.rate * _pace(key, self.model.text_encoders[key])}
            for key, rows in self.f_adapter.items()
        ]
        return torch.optim.Adam(groups)

    def _entering(self, key: str) -> Tensor:
        """The sound [d] as it enters the words of a text encoder."""
        sound, scale = self.sounds[key], self.scale[key]
        return sound if scale is None else scale * sound / sound.norm().clamp(min=1e-12)

    def _draw(self) -> tuple[Prompt, Tensor, Tensor, Tensor]:
        rows = next(self.rows)
        noise = torch.randn(len(rows), *self.latents.shape[1:], generator=self.generator)
        choice = int(torch.randint(len(self.prompts), (), generator=self.choices))
        return self.prompts[choice], rows, noise, next(self.times)

    def _backward(self, prompt: Prompt, latents: Tensor, noise: Tensor, t: Tensor) -> float:
        """Sets the gradients of f_adapter; returns the loss."""

        def losses(cond: Conditioning) -> Iterator[tuple[float, Tensor]]:
            for part in torch.arange(len(latents)).split(self._chunk()):
                loss = self._loss(latents[part.to(latents.device)], cond, noise[part], t[part])
                yield len(part) / len(latents), loss

        parameters = list(self.f_adapter.values())
        total, gradients = word_gradients(
            lambda: self._encode(prompt, self.f_adapter), losses, parameters, self.loss_scale, self.steps + 1
        )
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        return total

    def _encode(self, prompt: Prompt, f_adapter: Mapping[str, Tensor]) -> Conditioning:
        vectors = {k: word_vectors(self.sounds[k], self.scale[k], v) for k, v in f_adapter.items()}
        return self.model.encode_prompt(prompt, {prompt.tokens[0].name: vectors})

    def _loss(self, latents: Tensor, cond: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        return self.model.denoising_loss(latents, cond, noise.to(latents.device), t.to(latents.device))

    def _chunk(self) -> int:
        return self.settings.chunk or self.settings.batch

    def _remember(self, loss: float) -> None:
        """Notes a step's loss; without validation, the vectors that it is the loss of may be the best."""
        self.losses.append(loss)
        count = len(self.losses)
        self.running += (loss - self.running) / min(count, SETTLING)
        if not self.settings.validate and (
            count == 1 or (count >= SETTLING and self.running < self.best_loss)
        ):
            self.best = self._current()
            # The mean of the first steps says little yet; any later one is better.
            self.best_loss = self.running if count >= SETTLING else torch.inf

    def _current(self) -> dict[str, Tensor]:
        adapters = self.f_adapter if self.settings.average is None else self.average
        return {k: v.detach().clone() for k, v in adapters.items()}

    def _momentum(self) -> dict[str, Tensor]:
        kept = {}
        for key, parameter in self.f_adapter.items():
            state = self.optimizer.state.get(parameter)
            if self.losses:
                kept[f"{key} f_adapter"] = parameter.detach().cpu().clone()
            if state:
                kept[f"{key} mean"] = state["exp_avg"].cpu().clone()
                kept[f"{key} variance"] = state["exp_avg_sq"].cpu().clone()
                kept[f"{key} steps"] = state["step"].cpu().clone()[None]
            if self.settings.average is not None:
                kept[f"{key} average"] = self.average[key].cpu().clone()
            if self.measured_at >= 0:
                kept[f"{key} best"] = self.best[key].cpu().clone()
        return kept

    def _measured(self) -> dict[str, float]:
        if self.measured_at < 0:
            return {}
        return {"best": self.best_loss, "step": self.measured_at, "waited": self.waited}

    def _resume(self, token: SoundToken) -> None:
        for key, parameter in self.f_adapter.items():
            adapter = token.f_adapter.get(key)
            if adapter is None or adapter.shape != parameter.shape:
                shape = "none" if adapter is None else list(adapter.shape)
                raise InputError(
                    f"The token '{token.name}' cannot go on here: its adapter for {key} is {shape}, and "
                    f"{list(parameter.shape)} is asked for. Take as many vectors and the same model."
                )
            last = token.momentum.get(f"{key} f_adapter", adapter)
            with torch.no_grad():
                parameter.copy_(last)
                # Older tokens hold the average as their f_adapter alone.
                self.average[key].copy_(token.momentum.get(f"{key} average", adapter))
            if f"{key} mean" in token.momentum:
                self.optimizer.state[parameter] = {
                    "step": token.momentum[f"{key} steps"][0].clone(),
                    # Clones: the token may have been loaded in inference mode.
                    "exp_avg": token.momentum[f"{key} mean"].to(parameter).clone(),
                    "exp_avg_sq": token.momentum[f"{key} variance"].to(parameter).clone(),
                }
        done = token.provenance.get("steps", "0")
        self.resumed_at = int(done) if done.isdecimal() else 0
        self._check_sound(token)
        if self.resumed_at >= self.settings.steps:
            raise InputError(
                f"The token '{token.name}' has {self.resumed_at} steps behind it already: ask for more than "
                f"{self.settings.steps}."
            )

    def _check_sound(self, token: SoundToken) -> None:
        """Raises InputError where a training would go on with another sound, or another scale of it."""
        known, now = token.f_a, self.f_a.float().cpu()
        same = known is not None and known.shape == now.shape
        # The same sound is not the same to the last bit on every device.
        if not same or torch.cosine_similarity(known.float().cpu(), now, dim=0) < 0.999:
            raise InputError(
                f"The token '{token.name}' was trained for another sound: give the same sound, or begin "
                "without it (Rebind Sound Token puts another sound into a trained token)."
            )
        for key, asked in self.scale.items():
            scale = token.scale.get(key)
            if (scale is None) != (asked is None):
                was = "raw" if scale is None else "vocabulary"
                raise InputError(
                    f"The token '{token.name}' was begun with the scale '{was}': go on with that, or begin "
                    "anew."
                )

    def _resume_best(self, token: SoundToken) -> None:
        for key, best in self.best.items():
            best.copy_(token.momentum[f"{key} best"])
        self.best_loss = token.measured["best"]
        self.measured_at, self.waited = int(token.measured["step"]), int(token.measured["waited"])


def check_resumable(token: SoundToken, model: PictureModel) -> None:
    """Raises InputError where the token's words are another text encoder's than the model's, or both say that
    they are of another family."""
    trained = {key: rows.shape[1] for key, rows in token.vectors.items()}
    read = {key: vocabulary.dim for key, vocabulary in model.text_encoders.items()}
    if trained != read:
        raise InputError(
            f"The token '{token.name}' was trained for {in_words(trained)}; this model reads "
            f"{in_words(read)}: go on with the model that it was trained with, or begin anew."
        )
    base = token.provenance.get("base")
    if base is not None and is_other_base(base, model):
        raise InputError(
            f"The token '{token.name}' was trained with {base}, and this is {base_of(model)}: go on with the "
            "model that it was trained with, or begin anew."
        )


def check_prompts(prompts: Sequence[Prompt], template: str) -> None:
    """Raises InputError for training prompts of which one has no place for the sound, or none at all."""
    without = next((p.text for p in prompts if not p.used()), None)
    if without is not None or not prompts:
        raise InputError(
            f"The training prompt '{template if without is None else without}' has no * for the "
            "sound: write one, as in a photo of *."
        )


def _pace(encoder: str, vocabulary: TextEncoderInfo) -> float:
    """How much faster than CLIP's an encoder's words are trained: Adam's steps have a length of their own,
    and T5's numbers are hundreds of times CLIP's."""
    return 1.0 if encoder in CLIPS else vocabulary.std / CLIP_SPREAD


def _turned(sound: Tensor, e: Tensor, length: float, radius: float) -> Tensor:
    """Words e [n, d] on the sphere of `length`, turned towards the sound [d] until none is farther than
    `radius` from it."""
    to = sound / sound.norm().clamp(min=1e-12)
    along = e @ to
    across = e - along[:, None] * to
    across = across / across.norm(dim=1, keepdim=True).clamp(min=1e-12)
    # A chord of the sphere: 2 length sin(angle / 2).
    angle = 2 * torch.asin(torch.tensor(min(radius / (2 * length), 1.0)))
    turned = length * (torch.cos(angle) * to + torch.sin(angle) * across)
    return torch.where(((e - sound).norm(dim=1) > radius)[:, None], turned, e)
