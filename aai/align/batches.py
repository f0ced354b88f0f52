"""Examples dealt out in batches: every clip once an epoch, changed a little each time it is heard."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.cavmae import CAVMAEConfig
from ..errors import InputError
from .augment import Augment
from .distributed import ALONE, Distributed
from .features import Features
from .train import Pairs


@dataclass(frozen=True)
class DrawnBatch:
    """A batch as it was drawn: of each clip of this rank's share, a window, a picture, its tokens, and a seed
    for the sound's changes."""

    clips: list[int]
    windows: list[int]
    pictures: list[int]
    tokens: list[int]
    seeds: list[int]


class Batches:
    """Batches for `align`: different clips, of each a window and a picture at random; every clip once before
    any comes again (of the last ones of an epoch, those that make no whole batch are left out).

    All ranks draw the same batch and read their own share of it, and a row's changes depend on its own seed:
    so the rows do not depend on how many ranks there are. The next batch is read while this one is in use.
    """

    def __init__(
        self,
        examples: Features,
        config: CAVMAEConfig,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
        ranks: Distributed = ALONE,
    ):
        self.examples, self.config, self.augment = examples, config, augment
        self.device, self.ranks = device, ranks
        self.deck = torch.zeros(0, dtype=torch.int64)
        self.random: torch.Generator | None = None
        self.thread = ThreadPoolExecutor(1)
        self.ahead: tuple[int, Future] | None = None
        self.before = self._place()

    def __call__(self, generator: torch.Generator, size: int) -> Pairs:
        """The next batch of `size` clips over all ranks, or of all there are; [size / ranks] rows of it.

        `generator` seeds the batches' own random numbers at the first call. Raises InputError where there are
        too few clips to tell from one another.
        """
        if self.random is None:
            seed = int(torch.randint(2**62, (), generator=generator))
            self.random = torch.Generator().manual_seed(seed)
        if self.ahead and self.ahead[0] != size:
            self.restore(self.before)
        coming = self.ahead[1] if self.ahead else self.thread.submit(self._read, self._draw(size))
        self.before = self._place()
        self.ahead = size, self.thread.submit(self._read, self._draw(size))
        pairs = coming.result()
        tokens = None if pairs.tokens_v is None else pairs.tokens_v.to(self.device)
        arrays = (pairs.fbanks, pairs.f_t, pairs.f_v, pairs.labels)
        return Pairs(*(array.to(self.device) for array in arrays), tokens)

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on."""
        return self.before

    def restore(self, state: dict[str, Tensor]) -> None:
        self.before, self.ahead, self.deck = state, None, state["deck"]
        self.random = torch.Generator()
        self.random.set_state(state["random"])

    def _place(self) -> dict[str, Tensor]:
        return {"deck": self.deck, "random": self.random.get_state()} if self.random else {}

    def _draw(self, size: int) -> DrawnBatch:
        total, ranks = len(self.examples.labels), self.ranks
        size = min(size, total) // ranks.count * ranks.count
        if size < 2:
            raise InputError(
                f"{total} clips make no batch for {ranks.count} processes: give more, since a sound is told "
                "from the others of its batch."
            )
        if len(self.deck) < size:
            self.deck = torch.randperm(total, generator=self.random)
        clips, self.deck = self.deck[:size].tolist(), self.deck[size:]
        which = torch.rand(2, size, generator=self.random, dtype=torch.float64).tolist()
        seeds = torch.randint(2**62, (size,), generator=self.random).tolist()

        def picks(rows: tuple, shares: list[float]) -> list[int]:
            return [int(rows[i][int(share * len(rows[i]))]) for i, share in zip(clips, shares)]

        own, given = ranks.share(size), self.examples
        windows, pictures = picks(given.windows, which[0]), picks(given.pictures, which[1])
        tokens = picks(given.token_rows, which[1]) if given.token_rows else []
        return DrawnBatch(clips[own], windows[own], pictures[own], tokens[own], seeds[own])

    def _read(self, hand: DrawnBatch) -> Pairs:
        fbanks = self.examples.fbanks[hand.windows].float()
        if self.augment:
            rows = zip(fbanks.split(1), (torch.Generator().manual_seed(seed) for seed in hand.seeds))
            fbanks = torch.cat([self.augment(row, self.config, random) for row, random in rows])
        labels = self.examples.labels[hand.clips]
        tokens = self.examples.tokens_v
        return Pairs(
            fbanks,
            self.examples.f_t[labels],
            self.examples.f_v[hand.pictures],
            labels,
            None if tokens is None else tokens[hand.tokens].float(),
        )
