"""Batches of clips' features: every clip once an epoch, augmented anew each time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..distributed import ALONE, Distributed
from ..encoders.cavmae import CAVMAEConfig
from ..errors import InputError
from .augment import Augment
from .features import Features
from .train import Pairs


@dataclass(frozen=True)
class DrawnBatch:
    """This process's rows of a batch as it was drawn: of each clip a window, a picture, the picture's tokens,
    and a seed for the augmentation."""

    clips: list[int]
    windows: list[int]
    pictures: list[int]
    tokens: list[int]
    seeds: list[int]


class Batches:
    """Batches for `align`: different clips, of each a window and a picture at random; every clip once an
    epoch (the last ones that do not fill a batch are left out).

    All processes draw the same batch and read their own share of it, and a row is augmented by its own seed:
    so the rows do not depend on the number of processes. The next batch is read while this one is in use.
    """

    def __init__(
        self,
        features: Features,
        config: CAVMAEConfig,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
        distributed: Distributed = ALONE,
    ):
        self.features, self.config, self.augment = features, config, augment
        self.device, self.distributed = device, distributed
        self.order = torch.zeros(0, dtype=torch.int64)
        self.random: torch.Generator | None = None
        self.thread = ThreadPoolExecutor(1)
        self.prefetched: tuple[int, Future] | None = None
        self.before = self._position()

    def __call__(self, generator: torch.Generator, size: int) -> Pairs:
        """The next batch of `size` clips over all processes, or of all there are: this process's rows of it.

        `generator` seeds the batches' own random numbers at the first call. Raises InputError where there are
        too few clips to tell from one another.
        """
        if self.random is None:
            seed = int(torch.randint(2**62, (), generator=generator))
            self.random = torch.Generator().manual_seed(seed)
        if self.prefetched and self.prefetched[0] != size:
            self.restore(self.before)
        batch = self.prefetched[1] if self.prefetched else self._submit(size)
        self.before = self._position()
        self.prefetched = size, self._submit(size)
        pairs = batch.result()
        tokens = None if pairs.tokens_v is None else pairs.tokens_v.to(self.device)
        arrays = (pairs.fbanks, pairs.f_t, pairs.f_v, pairs.labels)
        return Pairs(*(array.to(self.device) for array in arrays), tokens)

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on."""
        return self.before

    def restore(self, state: dict[str, Tensor]) -> None:
        """Makes the next batch the one that came next when `state` was taken."""
        self.before, self.prefetched, self.order = state, None, state["deck"]
        self.random = torch.Generator()
        self.random.set_state(state["random"])

    def _position(self) -> dict[str, Tensor]:
        return {"deck": self.order, "random": self.random.get_state()} if self.random else {}

    def _submit(self, size: int) -> Future:
        return self.thread.submit(self._read, self._draw(size))

    def _draw(self, size: int) -> DrawnBatch:
        features, total, count = self.features, len(self.features.labels), self.distributed.count
        size = min(size, total) // count * count
        if size < 2:
            raise InputError(
                f"{total} clips make no batch for {count} processes: give more, since a sound is told from "
                "the others of its batch."
            )
        if len(self.order) < size:
            self.order = torch.randperm(total, generator=self.random)
        clips, self.order = self.order[:size].tolist(), self.order[size:]
        uniform = torch.rand(2, size, generator=self.random, dtype=torch.float64).tolist()
        seeds = torch.randint(2**62, (size,), generator=self.random).tolist()

        def choose(rows: tuple, uniform: list[float]) -> list[int]:
            return [int(rows[i][int(u * len(rows[i]))]) for i, u in zip(clips, uniform)]

        own = self.distributed.share(size)
        windows, pictures = choose(features.windows, uniform[0]), choose(features.pictures, uniform[1])
        tokens = choose(features.token_rows, uniform[1]) if features.token_rows else []
        return DrawnBatch(clips[own], windows[own], pictures[own], tokens[own], seeds[own])

    def _read(self, drawn: DrawnBatch) -> Pairs:
        fbanks = self.features.fbanks[drawn.windows].float()
        if self.augment:
            rows = zip(fbanks.split(1), (torch.Generator().manual_seed(seed) for seed in drawn.seeds))
            fbanks = torch.cat([self.augment(row, self.config, random) for row, random in rows])
        labels = self.features.labels[drawn.clips]
        tokens = self.features.tokens_v
        return Pairs(
            fbanks,
            self.features.f_t[labels],
            self.features.f_v[drawn.pictures],
            labels,
            None if tokens is None else tokens[drawn.tokens].float(),
        )
