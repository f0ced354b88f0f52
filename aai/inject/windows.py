"""A sound window by window: what each is by the encoder, and how loud every moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio import SHORTEST, Sound
from ..encoders.base import SoundEmbedding, SoundEncoder, word_shares
from ..encoders.fingerprint import encoder_fingerprint
from ..errors import InputError
from ..meter import GATE, LoudnessMeter

WINDOW, HOP = 2.0, 0.25
"""Seconds. Of 20 stories of synthesized sounds, frames more than half a window from a cut have the right word
in 91 % with windows of 2 s and in 85 % with 1.5 s; longer ones blur what follows what."""
SHORTEST_HOP, LONGEST = 0.05, 60.0
BATCH = 16
SWING = 1e-5
"""Below this range of its samples a window holds nothing, however far from zero they lie."""


@dataclass(frozen=True, eq=False)
class SoundWindows:
    """A sound's N windows, `hop` seconds apart; number i is centred on (i + 0.5) hop, or lies as near to that
    as the sound's ends allow.

    f_a [N, dim], 0 where the window is `silent` [N]. `shares` [N, L] are those of the encoder's `labels`,
    were the window known, and `known` [N] the probability that it is; from `threshold` on it counts as known.
    `meter` has the loudness of every moment. `encoder` and `sound` are names, `fingerprint` the encoder's.
    """

    f_a: Tensor
    silent: Tensor
    shares: Tensor
    known: Tensor
    threshold: float
    hop: float
    window: float
    meter: LoudnessMeter
    labels: tuple[str, ...]
    encoder: str
    sound: str = ""
    fingerprint: str = ""

    @property
    def seconds(self) -> float:
        return self.meter.seconds

    def whole(self) -> SoundEmbedding:
        """The sound as one, of all its windows."""
        return SoundEmbedding(
            self.f_a[~self.silent].mean(0) if not self.silent.all() else self.f_a[0],
            self.meter.integrated(),
            self.sound,
            self.encoder,
            fingerprint=self.fingerprint,
        )


def check_windows(encoder: SoundEncoder, window: float = WINDOW, hop: float = HOP) -> None:
    """Raises InputError for a window or a hop (seconds) out of range, and an encoder without words."""
    if not SHORTEST <= window <= LONGEST or not SHORTEST_HOP <= hop <= LONGEST:
        raise InputError(
            f"A window of {window:g} s every {hop:g} s cannot be taken: a window lasts {SHORTEST:g} to "
            f"{LONGEST:g} s, and the next begins {SHORTEST_HOP:g} to {LONGEST:g} s after it."
        )
    if not encoder.labels:
        raise InputError(
            f"The encoder '{encoder.name}' is in no text encoder's space yet, so its windows have no words: "
            "align or bridge it first."
        )


def embed_windows(
    blocks: Iterable[Sound],
    encoder: SoundEncoder,
    window: float = WINDOW,
    hop: float = HOP,
    name: str = "",
    callback: Callable[[float], None] | None = None,
) -> SoundWindows:
    """The windows of a sound that comes in blocks (`audio.stream`), or whole as one; besides what is
    returned, a block and a batch of windows are kept. `callback(seconds)` is told how much is done and may
    raise.

    Raises InputError as `check_windows`, and for a sound below SHORTEST seconds.
    """
    check_windows(encoder, window, hop)
    meter, parts, silent = LoudnessMeter(), [], []
    batch: list[Sound] = []

    def embed() -> None:
        heard = [part for part in batch if part is not None]
        vectors = iter(encoder.embed(heard, own_length=True).float().cpu() if heard else ())
        for part in batch:
            silent.append(part is None)
            parts.append(torch.zeros(encoder.dim) if part is None else next(vectors))
        batch.clear()
        if callback is not None:
            callback(meter.seconds)

    before = None
    for begin, part in _windows(blocks, window, hop, meter):
        if begin == before and not batch:
            # The ends have several windows that lie at the same place.
            parts.append(parts[-1])
            silent.append(silent[-1])
            continue
        batch.append(part)
        before = begin
        if len(batch) == BATCH:
            embed()
    if batch:
        embed()
    if meter.seconds < SHORTEST:
        called = f"'{name}'" if name else "The sound"
        raise InputError(
            f"{called} lasts {meter.seconds:.2f} s, too short to hear: take {SHORTEST:g} s or more."
        )
    f_a, is_silent = torch.stack(parts), torch.tensor(silent)
    shares, known = word_shares(encoder, f_a)
    threshold = 0.0 if encoder.known is None else encoder.known.threshold
    return SoundWindows(
        f_a, is_silent, shares.half(), known, threshold, hop, window, meter, tuple(encoder.labels),
        encoder.name, name, encoder_fingerprint(encoder.family, encoder.state()[0]),
    )  # fmt: skip


def _windows(
    blocks: Iterable[Sound], window: float, hop: float, meter: LoudnessMeter
) -> Iterator[tuple[int, Sound | None]]:
    """Every window's first sample and its sound in mono, None where it is silent."""
    held, offset, number, rate = torch.zeros(1, 0), 0, 0, 0

    def cut(begin: int, size: int) -> Sound | None:
        part = held[:, begin - offset : begin - offset + size]
        middle = (begin + part.shape[1] / 2) / rate
        is_loud = meter.loudness(middle, part.shape[1] / rate) > GATE
        return Sound(part, rate) if is_loud and part.max() - part.min() > SWING else None

    for block in blocks:
        rate = block.rate
        size = round(window * rate)
        meter.add(block)
        held = torch.cat([held, block.mono().waveform.cpu()], dim=1)
        while (begin := _begin(number, window, hop, rate)) + size <= meter.count:
            yield begin, cut(begin, size)
            number += 1
        # What the last window needs, should the sound end here, stays.
        first = max(offset, min(begin, meter.count - size))
        held, offset = held[:, first - offset :], first
    while rate and number * hop < meter.seconds:
        begin = max(0, min(_begin(number, window, hop, rate), meter.count - size))
        yield begin, cut(begin, size)
        number += 1


def _begin(number: int, window: float, hop: float, rate: int) -> int:
    return max(0, round(((number + 0.5) * hop - window / 2) * rate))
