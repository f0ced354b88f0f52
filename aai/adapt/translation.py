"""How a sound enters a text encoder that its own encoder was not aligned with.

f_a lives in the output space of one text encoder (768 numbers of CLIP ViT-L/14, say). The words of Stable
Diffusion 2 are 1024 wide, those of XL's second text encoder 1280, and a CLAP encoder hears 512: eq. 6 has no
sum there. But both sides know words. The sound encoder's table has labels and their vectors in f_a's space;
the target text encoder reads the same labels (its state at the end token, as Align takes it). A ridge
regression from the one to the other, with an intercept, carries f_a over; there it enters as everywhere,
with the length of the vocabulary's words.

- Where the text encoder reads the labels as the table has them (mean cosine SAME and more), the encoder was
  aligned with it, and f_a enters as it is. So SDXL's first text encoder, which is Stable Diffusion 1's, takes
  f_a untouched and its second a translated one.
- The ridge is chosen by the labels themselves, each left out once.
- The map is cut to the RANK directions in which it moves the labels most (reduced-rank regression) and
  rounded to float16. That is what a token's file can carry (about 5 KB a rank of both sides), and training
  uses the very same map, so that `SoundToken.with_sound` (Fig. 6b) needs neither table nor text encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, logger
from ..picture.model import PictureModel
from ..token import Translation

log = logger(__name__)

SAME = 0.9
RANK = 32
RIDGES = tuple(10.0**e for e in range(-6, 2))
"""Tried ridges, as shares of the labels' mean variance."""
PROBES = 16
"""How many labels tell whether a text encoder is the one that the sound encoder was aligned with."""


def translations(
    model: PictureModel, f_a: Tensor, labels: Sequence[str], vectors: Tensor
) -> dict[str, Translation]:
    """What each of the model's text encoders needs for f_a [d] to enter; none where it enters as it is.

    `labels` and their `vectors` [L, d] are the sound encoder's table; without one, f_a enters as it is and
    must be as wide as the words. Raises InputError where it is not, or the table is not in f_a's space.
    """
    widths = {key: words.dim for key, words in model.text_encoders.items()}
    if not len(labels):
        for key, width in widths.items():
            if len(f_a) != width:
                raise InputError(
                    f"The sound embedding has {len(f_a)} numbers, but this model's text encoder {key} has "
                    f"words of {width}: use a sound encoder that was aligned with it, or one that knows "
                    "words by which its sounds can be translated."
                )
        return {}
    if vectors.shape != (len(labels), len(f_a)):
        raise InputError(
            f"The sound has {len(f_a)} numbers, but its encoder's {len(labels)} labels are of shape "
            f"{list(vectors.shape)}: hear the sound again."
        )
    some = list(range(0, len(labels), max(1, len(labels) // PROBES)))[:PROBES]
    probed = model.embed_text([labels[i] for i in some])
    foreign = [
        key for key, width in widths.items() if width != len(f_a) or not _same(vectors[some], probed[key])
    ]
    if not foreign:
        return {}
    states = model.embed_text(labels)
    return {key: fit(vectors, states[key]) for key in foreign}


def fit(vectors: Tensor, states: Tensor, rank: int = RANK) -> Translation:
    """The map from one space to another by words that both know: vectors [L, d], states [L, D].

    Raises InputError for fewer than three words.
    """
    if len(vectors) < 3:
        raise InputError(
            f"{len(vectors)} labels are too few to translate a sound by: use a sound encoder that knows more."
        )
    x, y = (F.normalize(t.detach().double().cpu(), dim=-1) for t in (vectors, states))
    mean_in, mean_out = x.mean(0), y.mean(0)
    x, y = x - mean_in, y - mean_out
    variance, basis = torch.linalg.eigh(x @ x.T)
    variance = variance.clamp(min=0)
    ridge = min((r * float(variance.mean()) for r in RIDGES), key=lambda r: _left_out(variance, basis, y, r))
    whole = y.T @ (basis / (variance + ridge)) @ basis.T @ x
    fitted = x @ whole.T
    directions = torch.linalg.svd(fitted, full_matrices=False).Vh[: min(rank, len(x) - 1)]
    share = float((fitted @ directions.T).square().sum() / fitted.square().sum().clamp(min=1e-30))
    log.info(
        "%d labels translate the sound from %d to %d numbers; %d directions carry %.0f %% of them.",
        len(x), x.shape[1], y.shape[1], len(directions), 100 * share,
    )  # fmt: skip
    kept = (mean_in, mean_out, directions @ whole, directions.T)
    return Translation(*(t.to(torch.float16).contiguous() for t in kept))


def _left_out(variance: Tensor, basis: Tensor, y: Tensor, ridge: float) -> float:
    """The mean squared error for labels [L, D] that the fit has not seen, each left out once."""
    hat = (basis * (variance / (variance + ridge))) @ basis.T
    # The intercept is fitted too, which adds 1 / L to each leverage.
    leverage = (hat.diagonal() + 1 / len(y)).clamp(max=1 - 1e-9)
    return float(((y - hat @ y) / (1 - leverage)[:, None]).square().mean())


def _same(vectors: Tensor, states: Tensor) -> bool:
    return float(F.cosine_similarity(vectors.float().cpu(), states.float().cpu(), dim=-1).mean()) >= SAME
