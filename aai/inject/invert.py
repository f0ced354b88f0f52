"""Direct inversion (Ju et al. 2023, PnP Inversion): edits of pictures that no model has drawn.

DDIM runs backwards from the picture's latents into noise, at guidance 1, and the latents of every step are
kept: the trajectory. In an edit the source row follows it exactly, whatever the sampler does, so nothing is
optimised and the source comes back as it was; the edited row starts where the trajectory ends.

Null-text optimisation (Mokady et al. 2023) is the option: for each step the unconditional embedding is
optimised so that guidance keeps to the trajectory too. It takes minutes, and holds for one guidance and one
number of steps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import files
from ..errors import InputError, logger
from ..optim import LossScale
from ..picture.model import Conditioning, PictureModel

log = logger(__name__)

METADATA, MODEL, GUIDANCE = "aai_trajectory", "aai_model", "aai_guidance"
"""The keys of a file's metadata: the prompt, the U-Net's fingerprint, and the null embeddings' guidance."""

LARGEST_SIDE = 2
"""A picture's longer side is at most so many times the model's own when it is inverted: a camera's would not
fit."""


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is an inverted picture that this package wrote."""
    return METADATA in files.metadata(path)


@dataclass(frozen=True)
class Trajectory:
    """A picture's latents on their way into noise.

    sigmas: [n + 1], descending, the last 0.
    latents: [n + 1, C, h, w] at these sigmas, clean + sigma noise, scaled as the U-Net was trained on.
    nulls: the unconditional embeddings from each sigma to the next [n, L, D] of null-text optimisation.
    model: the fingerprint of the U-Net that inverted the picture; "" is not checked.
    guidance: what `nulls` are for.
    """

    sigmas: Tensor
    latents: Tensor
    nulls: Tensor | None = None
    model: str = ""
    guidance: float | None = None

    @property
    def clean(self) -> Tensor:
        """The picture's own latents [C, h, w]."""
        return self.latents[-1]

    def at(self, sigma: float) -> Tensor:
        """The latents [C, h, w] at any sigma: between two stored ones on the line from one to the other,
        beyond the first with the noise scaled."""
        descending = self.sigmas.tolist()
        if sigma >= descending[0]:
            return self.clean + (self.latents[0] - self.clean) * (sigma / descending[0])
        below = next(i for i, s in enumerate(descending) if s <= sigma)
        share = (sigma - descending[below]) / (descending[below - 1] - descending[below])
        return torch.lerp(self.latents[below], self.latents[below - 1], share)

    def null(self, sigma: float) -> Tensor:
        """The unconditional embedding [L, D] of the step that starts nearest to a sigma, by its logarithm."""
        # A sampler's sigmas are not quite the trajectory's, which stand at whole timesteps.
        starts = self.sigmas[:-1].log()
        return self.nulls[int((starts - math.log(max(sigma, 1e-6))).abs().argmin())]

    def check_size(self, size: Sequence[int]) -> None:
        """Raises InputError where latents of `size` (C, h, w) cannot follow this trajectory."""
        if tuple(self.clean.shape) != tuple(size):
            raise InputError(
                f"The inverted picture's latents are {list(self.clean.shape)}, but the sampler's are "
                f"{list(size)}: sample the latent that came from the edit, with the model that inverted it."
            )

    def check_model(self, fingerprint: str) -> None:
        """Raises InputError for another U-Net than the one that inverted the picture."""
        if self.model and self.model != fingerprint:
            raise InputError(
                f"The picture was inverted with another model (U-Net {self.model}, and this is "
                f"{fingerprint}): invert it again with this model, or edit it with that one."
            )

    def warn_of_others(self, steps: int | None, guidance: float | None) -> None:
        """Warns where null embeddings are sampled in other steps, or at another guidance, than they are for;
        None is not known."""
        if self.nulls is None:
            return
        pairs = ((steps, len(self.nulls), "steps"), (guidance, self.guidance, "guidance (cfg)"))
        for given, meant, name in pairs:
            if None not in (given, meant) and given != meant:
                log.warning(
                    "The picture's null-text embeddings were made for a sampler with %s %g, but it has %g: "
                    "set it to the same, or invert the picture again.",
                    name,
                    meant,
                    given,
                )

    def save(self, path: str | os.PathLike, prompt: str) -> None:
        """Writes the trajectory, and the prompt that describes the picture, in one move.

        Raises InputError where the disk does not take it.
        """
        fields = {"sigmas": self.sigmas, "latents": self.latents, "nulls": self.nulls}
        tensors = {name: value for name, value in fields.items() if value is not None}
        metadata = {METADATA: prompt, MODEL: self.model}
        if self.guidance is not None:
            metadata[GUIDANCE] = repr(float(self.guidance))
        files.write_safetensors(path, tensors, metadata, "The inverted picture")


def load(path: str | os.PathLike) -> tuple[Trajectory, str]:
    """A saved trajectory and its prompt. Raises InputError for a file that is missing or of another kind."""
    try:
        tensors, metadata = files.read_safetensors(path)
        guidance = float(metadata[GUIDANCE]) if GUIDANCE in metadata else None
        trajectory = Trajectory(**tensors, model=metadata.get(MODEL, ""), guidance=guidance)
        _check(trajectory)
        return trajectory, metadata[METADATA]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"'{path}' is no inverted picture ({error}).") from error


def _check(trajectory: Trajectory) -> None:
    """Raises ValueError where what a file holds is not a trajectory."""
    sigmas, latents, nulls = trajectory.sigmas, trajectory.latents, trajectory.nulls
    if sigmas.ndim != 1 or len(sigmas) < 2 or sigmas[-1] != 0 or not (sigmas[:-1] > sigmas[1:]).all():
        raise ValueError("its sigmas do not fall to 0")
    if latents.ndim != 4 or len(latents) != len(sigmas):
        raise ValueError(f"its latents are {list(latents.shape)} for {len(sigmas)} sigmas")
    if nulls is not None and (nulls.ndim != 3 or len(nulls) != len(sigmas) - 1):
        raise ValueError(f"its null embeddings are {list(nulls.shape)} for {len(sigmas) - 1} steps")
    parts = [part for part in (sigmas, latents, nulls) if part is not None]
    if not all(part.is_floating_point() and torch.isfinite(part).all() for part in parts):
        raise ValueError("it holds numbers that are not finite")
    if trajectory.guidance is not None and not math.isfinite(trajectory.guidance):
        raise ValueError(f"its guidance is {trajectory.guidance}")


def reduced(pictures: Tensor, native_size: int) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1], reduced where their longer side is above LARGEST_SIDE native sizes."""
    factor = LARGEST_SIDE * native_size / max(pictures.shape[-2:])
    if factor >= 1:
        return pictures
    size = [max(1, round(side * factor)) for side in pictures.shape[-2:]]
    return F.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(0, 1)


def invert(
    model: PictureModel,
    latents: Tensor,
    cond: Conditioning,
    steps: int = 50,
    callback: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """The trajectory of a picture's latents [1, C, h, w] into noise, under the prompt that describes it.

    The noise of each step is predicted from the latents before it at the timestep after it
    (google/prompt-to-prompt's `ddim_loop`); the last step always goes to the last timestep.
    `callback(step, steps)` may raise to stop. Raises InputError for more pictures than one, or less than one
    step.
    """
    if len(latents) != 1:
        raise InputError(f"{len(latents)} pictures were given to invert: give one.")
    sigmas = model.sigmas
    if not 1 <= steps <= len(sigmas):
        raise InputError(f"A picture cannot be inverted in {steps} steps: take 1 to {len(sigmas)}.")
    last = len(sigmas) - 1
    # One number alone would be the first, from which no noise is reached.
    times = torch.linspace(0 if steps > 1 else last, last, steps).round().long()
    rising = [0.0, *(float(sigmas[t]) for t in times)]
    x = latents.float()
    trajectory = [x]
    with torch.no_grad():
        for i, t in enumerate(times):
            before, after = rising[i], rising[i + 1]
            # Of unit variance at the sigma where they stand; only the timestep is that of the next.
            noise = model.predict_noise(x / (1 + before**2) ** 0.5, t[None], cond).float()
            x = x + (after - before) * noise.to(x)
            trajectory.append(x)
            if callback:
                callback(i + 1, steps)
    return Trajectory(torch.tensor(rising[::-1]), torch.cat(trajectory[::-1]), model=model.fingerprint)


def null_text(
    model: PictureModel,
    trajectory: Trajectory,
    cond: Conditioning,
    uncond: Conditioning,
    guidance: float,
    inner: int = 10,
    callback: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """The trajectory with each step's unconditional embedding optimised, so that guidance follows it.

    Adam for up to `inner` steps at each, from the embedding of the step before; it stops early below 1e-5 +
    2e-5 for each step done (the reference's). The model's predictions must be differentiable in the
    embedding. `callback(step, steps)` may raise to stop. Raises InputError for gradients that are not finite.
    """
    # Copies, because what was made in inference mode takes no part in a gradient.
    latents, null, nulls = trajectory.latents.clone(), uncond.cross.detach().clone().float(), []
    cond, uncond = (
        replace(c, cross=c.cross.clone(), pooled=None if c.pooled is None else c.pooled.clone())
        for c in (cond, uncond)
    )
    x = latents[:1]
    steps = len(trajectory.sigmas) - 1
    scale = LossScale(model.dtype)
    times = (model.sigmas.cpu()[None] - trajectory.sigmas.cpu()[:-1, None]).abs().argmin(1)

    def predicted(x: Tensor, sigma: float, t: Tensor, cond: Conditioning) -> Tensor:
        return model.predict_noise(x / (1 + sigma**2) ** 0.5, t[None], cond).float().to(x)

    def guided(null: Tensor, x: Tensor, prompted: Tensor, i: int) -> Tensor:
        sigma, following = float(trajectory.sigmas[i]), float(trajectory.sigmas[i + 1])
        plain = predicted(x, sigma, times[i], Conditioning(null, uncond.pooled, uncond.token_ids))
        return x + (following - sigma) * (plain + guidance * (prompted - plain))

    for i in range(steps):
        with torch.no_grad():
            prompted = predicted(x, float(trajectory.sigmas[i]), times[i], cond)
        # Compared at unit variance, as the reference's latents are.
        target, variance = latents[i + 1 : i + 2], 1 + float(trajectory.sigmas[i + 1]) ** 2
        null = null.clone().requires_grad_()
        optimizer = torch.optim.Adam([null], lr=1e-2 * (1 - i / max(100, steps)))
        for _ in range(inner):
            null.grad, loss = _gradient(
                F.mse_loss(guided(null, x, prompted, i), target) / variance, null, scale
            )
            optimizer.step()
            if loss < 1e-5 + 2e-5 * i:
                break
        null = null.detach()
        with torch.no_grad():
            x = guided(null, x, prompted, i)
        nulls.append(null)
        if callback:
            callback(i + 1, steps)
    return replace(trajectory, nulls=torch.cat(nulls), guidance=guidance)


def _gradient(loss: Tensor, null: Tensor, scale: LossScale) -> tuple[Tensor, float]:
    """The loss's gradient in the embedding, and the loss. Raises InputError where the first is not finite."""
    while True:
        (gradient,) = torch.autograd.grad(loss * scale.value, [null], retain_graph=scale.value > 1)
        if not scale.overflows([gradient]):
            return gradient / scale.value, loss.item()
        if scale.value < 1:
            raise InputError(
                "Null-text optimisation found a gradient that is no number: load the model in bfloat16 or "
                "float32, or invert without it."
            )
