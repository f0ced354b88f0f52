"""Eq. 8: how loud a sound is sets how much of it a picture shows.

A scaled attention map enters only as scale * S[:, j] v[j], so scaling a value row does the same at no cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..prompt import TokenIds
from .attention import Injection, groups_of, weighted
from .edit_run import EditRun
from .joint import JointInjection
from .latent_frames import LatentFilm
from .words import WordScale

REFERENCE = -23.0
"""The loudness, in LUFS, that leaves a token as it is: EBU R 128's programme level."""

LARGEST = 2.0


def scale_of(loudness: float, reference: float = REFERENCE) -> float:
    """The scale of a loudness in LUFS: clip(2^((L - L_ref) / 10), 0, 2), so that what sounds twice as loud
    counts twice. Silence (-inf) gives 0. Raises InputError for a loudness that is not a number."""
    if math.isnan(loudness) or not math.isfinite(reference):
        raise InputError(
            f"A loudness of {loudness} LUFS against {reference} has no scale: measure the sound again, or "
            "type a scale."
        )
    if loudness == -math.inf:
        return 0.0
    # Far above the reference the power would overflow.
    return min(2.0 ** min((loudness - reference) / 10, 1.0), LARGEST)


def check_scale(scale: float) -> float:
    """The scale itself. Raises InputError where it lies outside [0, 2]."""
    if not 0 <= scale <= LARGEST:
        raise InputError(
            f"A loudness scale of {scale:g} is outside 0 to {LARGEST:g}: below 0 a token would draw its "
            "opposite, and above 2 it drowns the rest of the prompt."
        )
    return float(scale)


def read_scales(text: str) -> list[float]:
    """ "0, 0.5, 1" as numbers. Raises InputError for anything else, or a scale out of range."""
    try:
        scales = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        scales = []
    if not scales:
        raise InputError(
            f"'{text}' is no loudness scale: write a number from 0 to 2, or several with commas."
        )
    if max(scales) > LARGEST and re.fullmatch(r"\s*[01],\d+\s*", text):
        raise InputError(
            f"'{text}' is two loudness scales, and one is above {LARGEST:g}: write a fraction with a point, "
            f"as {text.strip().replace(',', '.')}."
        )
    return [check_scale(scale) for scale in scales]


def value_weights(token_ids: TokenIds, scales: Mapping[str, float]) -> list[float]:
    """Eq. 8 as weights of the value rows, one for each position: a token's scale at its places, 1
    elsewhere."""
    return [scales.get(piece[0], 1.0) if isinstance(piece, tuple) else 1.0 for piece in token_ids]


@dataclass(frozen=True)
class Reweight:
    """Eq. 8 in plain generation: {token name: scale in [0, 2]}, once for every picture or one for each of a
    batch, words' weights beside it, and what each latent frame of a clip reads. Raises InputError for a scale
    out of range."""

    scales: tuple[Mapping[str, float], ...]
    words: tuple[WordScale, ...] = ()
    film: LatentFilm | None = None

    def __post_init__(self) -> None:
        for scales in self.scales:
            for scale in scales.values():
                check_scale(scale)

    @property
    def rows(self) -> int:
        return len(self.scales)

    def groups(self, rows: Sequence[int]) -> list[list[int]]:
        """As `Edit.groups`; what would be the source takes no part."""
        if len(rows) % self.rows:
            raise InputError(
                f"{self.rows} loudness scales were given for a batch of {len(rows)} pictures: give one, or "
                "one for each."
            )
        return [[group[0], *group] for group in groups_of(rows, self.rows)]

    @property
    def source_pooled(self) -> bool:
        """Each picture's pooled text is its own."""
        return False

    @property
    def latent_size(self) -> None:
        """Latents of any size."""

    def check_model(self, fingerprint: str) -> None:
        """Every model will do."""

    def begin(self, size: Sequence[int], steps: int | None, guidance: float | None) -> EditRun:
        """One sampling."""
        return EditRun(self)

    def word_scale(self, word: WordScale, row: int) -> float:
        """The scale of words in a row of the batch."""
        return word.of(row)

    def source_share(self, row: int) -> float:
        """There is no source."""
        return 0.0

    def mix_of(self, row: int) -> int:
        """Which mix of an injection is a batch row's."""
        return row % self.rows

    def joint_at(self, progress: float, steps: int, token_ids: Sequence[TokenIds]) -> JointInjection:
        """Joint attention borrows nothing: what is scaled there are words."""
        return JointInjection(())

    def at(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection:
        """The same at every step. `token_ids` are those of one prompt for all pictures, or of each one's,
        which pictures take in turn, as groups of pictures take the scales. Raises InputError where neither
        goes into the other."""
        count = max(len(token_ids), self.rows)
        if count % len(token_ids) or count % self.rows:
            raise InputError(
                f"{self.rows} loudness scales were given for {len(token_ids)} prompts: give one, or one for "
                "each."
            )
        each, all_scales = list(token_ids) * (count // len(token_ids)), self.scales * (count // self.rows)
        weights = (value_weights(ids, scales) for ids, scales in zip(each, all_scales))
        return Injection(tuple(weighted(row, length) for row in weights))
