"""One sampling of an edit: the order in which whatever runs the model asks for its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..picture.control import Attend, Groups
from ..prompt import TokenIds
from .attention import Injection
from .blend import BlendRun
from .invert import Trajectory


class _Steered(Protocol):
    """What an EditRun asks of the edit, or of the scales, that it is a sampling of."""

    @property
    def rows(self) -> int: ...

    def groups(self, rows: Sequence[int]) -> list[list[int]]: ...

    def at(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection: ...


class EditRun:
    """The sampling of an edit, with its source's trajectory and its blend, if any: a `ControlRun`."""

    def __init__(
        self, edit: _Steered, trajectory: Trajectory | None = None, blending: BlendRun | None = None
    ):
        self.edit, self.trajectory, self.blending = edit, trajectory, blending
        self.rows = edit.rows

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """The noise [B, C, h, w] of variance 1 that begins the sampling: it ends the trajectory, where there
        is one."""
        if self.trajectory is None:
            return noise
        start = self.trajectory.at(sigma) / (1 + sigma**2) ** 0.5
        return start.to(noise).expand_as(noise)

    def added_noise(self, noise: Tensor, sigma: float, amount: float) -> Tensor:
        """What, added `amount` times to the picture's own latents, gives the trajectory's at a sigma; what an
        earlier sampling has made of them goes as far."""
        trajectory = self.trajectory
        return ((trajectory.at(sigma) - trajectory.clean) / amount).to(noise).expand_as(noise)

    def groups(self, rows: Sequence[int]) -> list[list[int]]:
        return self.edit.groups(rows)

    def injection(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection:
        return self.edit.at(progress, steps, token_ids, length)

    def enter(self, x: Tensor, sigma: float) -> Tensor:
        """Every source on its trajectory."""
        return x if self.trajectory is None else self.trajectory.enter(x, sigma, self.rows)

    def look(self, attend: Attend, q: Tensor, k: Tensor, groups: Groups, size: tuple[int, int]) -> None:
        if self.blending is not None:
            self.blending.look(attend, q, k, groups, size)

    def null(self, sigma: float) -> Tensor | None:
        optimised = self.trajectory is not None and self.trajectory.nulls is not None
        return self.trajectory.null(sigma) if optimised else None

    def leave(self, predictions: list[Tensor], prompted: int | None, progress: float) -> list[Tensor]:
        """Every source as the picture's own latents, and the edited rows kept to where they may differ."""
        if self.trajectory is not None:
            predictions = [self.trajectory.leave(clean, self.rows) for clean in predictions]
        if self.blending is None:
            return predictions
        if prompted is not None:
            self.blending.compare(predictions[prompted])
        return [self.blending.blended(clean, progress) for clean in predictions]

    def hold(self, clean: Tensor, progress: float) -> Tensor:
        """A guider's prediction, with what other guidance (SAG, PAG) has added to the source's trajectory, or
        where nothing may change, taken off."""
        if self.trajectory is not None:
            clean = self.trajectory.leave(clean, self.rows)
        return clean if self.blending is None else self.blending.held(clean, progress)
