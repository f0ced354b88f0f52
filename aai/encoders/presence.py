"""Which of an encoder's words a recording has, several at once.

The nearest words of f_a are those of what is loudest: the mean over tokens says little of a sound 9 dB below.
How the tokens spread says more. A small network on both that has met mixtures tells each word's probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import Sound, windows
from ..errors import InputError
from .cavmae_encoder import CAVMAEEncoder

THRESHOLD = 0.2
"""Below this probability a word after the first is not counted as there. Of mixtures to develop on, both
words reach it in 80 %, and 0.5 in 64 %; the lower it is, the more sounds that are alone are told as two."""


@dataclass(frozen=True, eq=False)
class Presence:
    """Two layers on the tokens' mean and deviation [2 dim], less `mean` over `spread`: `hidden` [H, 2 dim]
    and `bias` [H], then `out` [L, H] and `offset` [L], for L words."""

    mean: Tensor
    spread: Tensor
    hidden: Tensor
    bias: Tensor
    out: Tensor
    offset: Tensor

    def __call__(self, encoder: CAVMAEEncoder, sound: Sound) -> Tensor:
        """The probability of each word [L]: that of the window where it is greatest."""
        return self.logits(statistics(encoder, sound)).sigmoid().amax(0)

    def logits(self, rows: Tensor) -> Tensor:
        """[N, 2 dim] to [N, L]."""
        x = F.gelu(F.linear((rows - self.mean) / self.spread, self.hidden, self.bias))
        return F.linear(x, self.out, self.offset)

    def state(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @classmethod
    def restore(cls, parts: Mapping[str, Tensor], file: str, dim: int, labels: int) -> Presence:
        """Raises InputError where parts are missing or do not fit an encoder of `dim` numbers and so many
        words."""
        try:
            made = cls(**{name: part.float() for name, part in parts.items()})
            fits = made.logits(torch.zeros(1, 2 * dim)).shape == (1, labels)
        except (TypeError, RuntimeError) as error:
            raise InputError(f"'{file}' cannot be read ({error}): download it again.") from error
        if not fits:
            raise InputError(f"'{file}' is of an encoder with other words: download it again.")
        return made


@torch.no_grad()
def statistics(encoder: CAVMAEEncoder, sound: Sound) -> Tensor:
    """The mean and the deviation of a sound's tokens in each of its windows, [N, 2 dim]."""
    size = round(encoder.seconds * encoder.rate)
    parts = [F.pad(part, (0, size - len(part))) for part in windows(sound, encoder.rate, encoder.seconds)]
    tokens = encoder.model.forward_audio(encoder.fbanks(torch.stack(parts))).float().cpu()
    return torch.cat([tokens.mean(1), tokens.std(1)], dim=1)
