"""Direct inversion (Ju et al. 2023, PnP Inversion): edits of pictures that no model has drawn.

DDIM runs backwards from the picture's latents into noise, at guidance 1, and every latent on the way is kept.
In an edit the source row follows that way exactly, whatever the sampler does, so nothing is optimised and the
source comes back as it was; the edited row starts where the way ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import files
from ..errors import InputError
from ..picture.model import Conditioning, PictureModel

METADATA = "aai_trajectory"


@dataclass(frozen=True)
class Trajectory:
    """A picture's way into noise: descending sigmas [n + 1], the last 0, and its latents there [n + 1, C, h,
    w], clean + sigma noise, scaled as the U-Net knows them."""

    sigmas: Tensor
    latents: Tensor

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

    def enter(self, x: Tensor, sigma: float, rows: int) -> Tensor:
        """Noisy latents of groups of `rows`, every source on its way: what the U-Net is to see."""
        x = x.clone()
        x[::rows] = self.at(sigma).to(x)
        return x

    def save(self, path: str | os.PathLike, prompt: str) -> None:
        """Writes the way and the prompt that it was found under, in one move.

        Raises InputError where the disk does not take it.
        """
        from safetensors.torch import save

        tensors = {"sigmas": self.sigmas.cpu(), "latents": self.latents.cpu().contiguous()}
        content = save(tensors, metadata={METADATA: prompt})
        files.write(path, content, "The inverted picture")

    def leave(self, clean: Tensor, rows: int) -> Tensor:
        """What the U-Net made of them, every source as the picture's latents, where every sampler ends."""
        clean = clean.clone()
        clean[::rows] = self.clean.to(clean)
        return clean


def load(path: str | os.PathLike) -> tuple[Trajectory, str]:
    """A saved way and its prompt. Raises InputError for a file that is missing or another's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            prompt = (file.metadata() or {})[METADATA]
            return Trajectory(file.get_tensor("sigmas"), file.get_tensor("latents")), prompt
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"'{path}' is no inverted picture ({error}): make one with `aai invert`.") from error


def invert(
    model: PictureModel,
    latents: Tensor,
    cond: Conditioning,
    steps: int = 50,
    callback: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """The way of a picture's latents [1, C, h, w] into noise, under the prompt that describes it.

    The noise of each step is predicted at the latents before it for the sigma after it. `callback(step,
    steps)` may raise to stop. Raises InputError for more pictures than one, or less than one step.
    """
    if len(latents) != 1:
        raise InputError(f"{len(latents)} pictures were given to invert: give one.")
    if not 1 <= steps <= len(model.sigmas):
        raise InputError(f"A picture cannot be inverted in {steps} steps: take 1 to {len(model.sigmas)}.")
    times = torch.linspace(0, len(model.sigmas) - 1, steps).round().long()
    rising = [0.0, *(float(model.sigmas[t]) for t in times)]
    x = latents.float()
    way = [x]
    with torch.no_grad():
        for i, t in enumerate(times):
            before, after = rising[i], rising[i + 1]
            # Latents a little less noisy than the timestep means, scaled to the variance that it does.
            noise = model.predict_noise(x / (1 + after**2) ** 0.5, t[None], cond).float()
            x = x + (after - before) * noise.to(x)
            way.append(x)
            if callback:
                callback(i + 1, steps)
    return Trajectory(torch.tensor(rising[::-1]), torch.cat(way[::-1]))


def check_size(trajectory: Trajectory, size: Sequence[int]) -> None:
    """Raises InputError where latents of `size` (C, h, w) cannot follow a trajectory."""
    if tuple(trajectory.clean.shape) != tuple(size):
        raise InputError(
            f"The inverted picture's latents are {list(trajectory.clean.shape)}, but the sampler's are "
            f"{list(size)}: sample the latent that came from the edit."
        )
