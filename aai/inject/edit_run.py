"""One sampling of an edit: its attention, its source's trajectory and its blend, put together once for every
back end that can run a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from ..picture.beside import Beside
from ..picture.control import Attend, Groups
from ..prompt import TokenIds
from .attention import Injection
from .blend import BlendRun
from .invert import Trajectory
from .joint import JointInjection, WordedInjection
from .latent_frames import LatentFilm
from .words import WordScale


class InjectionPlan(Protocol):
    """Which attention is injected, and when: what an EditRun asks of an `Edit` or a `Reweight`."""

    @property
    def rows(self) -> int: ...

    @property
    def words(self) -> tuple[WordScale, ...]: ...

    @property
    def source_pooled(self) -> bool:
        """Whether a picture's pooled text may be another's."""

    @property
    def film(self) -> LatentFilm | None: ...

    def word_scale(self, word: WordScale, row: int) -> float: ...

    def source_share(self, row: int) -> float:
        """How much of its source a batch row still is, in [0, 1]."""

    def mix_of(self, row: int) -> int:
        """Which mix of an injection is a batch row's; below 0 for a source, which has none."""

    def groups(self, rows: Sequence[int]) -> list[list[int]]: ...

    def at(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection: ...

    def joint_at(self, progress: float, steps: int, token_ids: Sequence[TokenIds]) -> JointInjection: ...


class EditRun:
    """A `ControlRun`: latents [B, C, h, w] in groups of a source and its edited pictures.

    Whatever samples also calls `after_guidance` where guidance of others' may touch its prediction, and takes
    `added_noise` in place of `initial_noise` where it adds noise to latents of its own.
    """

    def __init__(
        self, plan: InjectionPlan, trajectory: Trajectory | None = None, blending: BlendRun | None = None
    ):
        self.plan, self.trajectory, self.blending = plan, trajectory, blending
        self.rows = plan.rows

    def initial_noise(self, noise: Tensor, sigma: float) -> Tensor:
        """The noise [B, C, h, w] of variance 1 at the sampler's first sigma: the trajectory's, x(sigma) /
        sqrt(1 + sigma^2), where there is one."""
        if self.trajectory is None:
            return noise
        start = self.trajectory.at(sigma) / (1 + sigma**2) ** 0.5
        return start.to(noise).expand_as(noise)

    def added_noise(self, noise: Tensor, sigma: float, amount: float) -> Tensor:
        """The noise [B, C, h, w] that, `amount` times it added to the picture's own latents, gives the
        trajectory's at a sigma. Latents that an earlier sampling has edited get the same."""
        if self.trajectory is None:
            return noise
        added = (self.trajectory.at(sigma) - self.trajectory.clean) / amount
        return added.to(noise).expand_as(noise)

    def groups(self, rows: Sequence[int]) -> list[list[int]]:
        return self.plan.groups(rows)

    def injection(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection:
        return self.plan.at(progress, steps, token_ids, length)

    def joint_injection(self, progress: float, steps: int, token_ids: Sequence[TokenIds]) -> JointInjection:
        """What joint attention does; its prompts may differ in length."""
        return self.plan.joint_at(progress, steps, token_ids)

    def worded_injection(
        self, progress: float, steps: int, token_ids: Sequence[TokenIds], count: int, length: int
    ) -> tuple[JointInjection | WordedInjection, list[Beside]]:
        """`joint_injection` for a batch of `count` rows whose text has `length` places, and what has to run
        behind it: each row with its prompt without some words, where they have a weight."""
        own = self.joint_injection(progress, steps, token_ids).fitted(0, length)
        beside = [
            Beside(row, without, scale, not self.plan.source_pooled)
            for word in self.plan.words
            for row in range(count)
            if (without := word.without.get(token_ids[row % len(token_ids)])) is not None
            if (scale := self.plan.word_scale(word, row)) != 1.0
        ]
        if not beside:
            return own, beside
        parts, words = [], []
        for at, part in enumerate(beside, count):
            injection = self.joint_beside(progress, steps, token_ids, part.row, part.without.token_ids[0])
            parts.append((injection.fitted(0, length), [[self.source_of(part.row), at]]))
            words.append((at, part.row, part.weight))
        return WordedInjection(own, tuple(parts), tuple(words)), beside

    def joint_beside(
        self, progress: float, steps: int, token_ids: Sequence[TokenIds], row: int, without: TokenIds
    ) -> JointInjection:
        """`joint_injection` of a row's source and a row beside it alone, whose prompt is `without`."""
        injection = self.plan.joint_at(progress, steps, _instead(token_ids, row, without))
        number = self.plan.mix_of(row)
        return replace(injection, mixes=injection.mixes[number : number + 1])

    def injection_beside(
        self,
        progress: float,
        steps: int,
        token_ids: Sequence[TokenIds],
        length: int,
        row: int,
        without: TokenIds,
    ) -> Injection:
        """`injection` of a row's source and a row beside it alone, whose prompt is `without`."""
        injection = self.plan.at(progress, steps, _instead(token_ids, row, without), length)
        number = self.plan.mix_of(row)
        return replace(injection, mixes=injection.mixes[number : number + 1])

    def source_of(self, row: int) -> int:
        """The first row of a batch row's group."""
        return row - row % self.rows

    def before_model(self, x: Tensor, sigma: float) -> Tensor:
        """Every source on its trajectory."""
        return x if self.trajectory is None else self._led(x, self.trajectory.at(sigma))

    def observe(self, attend: Attend, q: Tensor, k: Tensor, groups: Groups, size: tuple[int, int]) -> None:
        if self.blending is not None:
            self.blending.observe(attend, q, k, groups, size)

    def unconditional(self, sigma: float) -> Tensor | None:
        """Null-text optimisation's embedding [L, D], where the trajectory has it."""
        optimised = self.trajectory is not None and self.trajectory.nulls is not None
        return self.trajectory.null(sigma) if optimised else None

    def after_model(self, predictions: list[Tensor], prompted: int | None, progress: float) -> list[Tensor]:
        """Every source as the picture's own latents, and the edited rows kept to where they may differ."""
        if self.trajectory is not None:
            predictions = [self._led(clean, self.trajectory.clean) for clean in predictions]
        if self.blending is None:
            return predictions
        if prompted is not None:
            self.blending.compare(predictions[prompted])
        return [self.blending.blended(clean, progress) for clean in predictions]

    def after_guidance(self, clean: Tensor, progress: float) -> Tensor:
        """A guider's prediction [B, C, h, w] without what other guidance (SAG, PAG) has added to the source's
        trajectory, or where nothing may change."""
        if self.trajectory is not None:
            clean = self._led(clean, self.trajectory.clean)
        return clean if self.blending is None else self.blending.restored(clean, progress)

    def _led(self, latents: Tensor, source: Tensor) -> Tensor:
        """Latents [B, C, h, w] with every source as `source` [C, h, w], and the edited rows moved as far as
        they still are their source by what that has moved it."""
        led, source = latents.clone(), source.to(latents)
        for row in range(self.rows):
            share = self.plan.source_share(row)
            # Nothing rounds where a row is its source, or is not at all.
            if share == 1:
                led[row :: self.rows] = source
            elif share:
                led[row :: self.rows] += share * (source - latents[:: self.rows])
        return led


def _instead(token_ids: Sequence[TokenIds], row: int, other: TokenIds) -> tuple[TokenIds, ...]:
    """Prompts, taken in turn, of which a row's is another."""
    found = list(token_ids)
    found[row % len(found)] = other
    return tuple(found)
