"""Translating a sound into the space of a text encoder that its own encoder was not aligned with.

f_a lies in the output space of one text encoder (768 numbers of CLIP ViT-L/14, say). The words of Stable
Diffusion 2 are 1024 wide, those of XL's second text encoder 1280, and CLAP's embeddings 512: eq. 6 has no
sum there. But both sides know words. The sound encoder's table has labels and their vectors in f_a's space;
the target text encoder embeds the same labels: CLIP by its state at the end token, as in stage 1, T5 and
language models by the mean of a label's word embeddings, among which the result is to stand. A ridge
regression from the one to the other, with an intercept, maps f_a; the result enters as any f_a does, with
the length of the vocabulary's words.

- Where the text encoder's vectors of the labels are those of the table (mean cosine of SAME or more), the
  sound encoder was aligned with it, and f_a enters as it is. So SDXL's first text encoder, which is Stable
  Diffusion 1's, takes f_a untouched and its second a translated one.
- The ridge's strength is chosen by leaving out each label once (`aai.ridge`).
- The map is reduced to the RANK directions in which it moves the labels most (reduced-rank regression) and
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
from ..ridge import ridge
from ..token import Translation

log = logger(__name__)

SAME = 0.9
STRONGEST = 10.0
"""The largest lambda: beyond it every sound would be the mean of all words."""
RANK = 32
PROBES = 16
"""How many labels are compared to decide whether the sound encoder was aligned with a text encoder."""


def translations(
    model: PictureModel, f_a: Tensor, labels: Sequence[str], vectors: Tensor
) -> dict[str, Translation]:
    """{text encoder: the map for f_a [d]} for those of the model's that f_a does not enter as it is.

    `labels` and their `vectors` [L, d] are the sound encoder's table; without one, f_a enters as it is and
    must be as wide as the words. Raises InputError where it is not, or the table is not in f_a's space.
    """
    widths = {key: vocabulary.dim for key, vocabulary in model.text_encoders.items()}
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
    rows = list(range(0, len(labels), max(1, len(labels) // PROBES)))[:PROBES]
    probed = model.embed_text([labels[i] for i in rows])
    foreign = [
        key for key, width in widths.items() if width != len(f_a) or not _same(vectors[rows], probed[key])
    ]
    if not foreign:
        return {}
    states = model.embed_text(labels)
    return {key: fit(vectors, states[key]) for key in foreign}


def fit(vectors: Tensor, states: Tensor, rank: int = RANK) -> Translation:
    """The map from one space to another, fitted on words in both: vectors [L, d], states [L, D].

    Raises InputError for fewer than three words.
    """
    if len(vectors) < 3:
        raise InputError(
            f"{len(vectors)} labels are too few to translate a sound by: use a sound encoder that knows more."
        )
    x, y = (F.normalize(t.detach().cpu().double(), dim=-1) for t in (vectors, states))
    whole = ridge(x[:, None], y, STRONGEST)
    fitted = (x.float() - whole.mean_x) @ whole.weight.T
    directions = torch.linalg.svd(fitted, full_matrices=False).Vh[: min(rank, len(x) - 1)]
    share = float((fitted @ directions.T).square().sum() / fitted.square().sum().clamp(min=1e-30))
    log.info(
        "%d labels translate the sound from %d to %d numbers; %d directions carry %.0f %% of them.",
        len(x), x.shape[1], y.shape[1], len(directions), 100 * share,
    )  # fmt: skip
    kept = (whole.mean_x, whole.mean_y, directions @ whole.weight, directions.T)
    return Translation(*(t.to(torch.float16).contiguous() for t in kept))


def _same(vectors: Tensor, states: Tensor) -> bool:
    return float(F.cosine_similarity(vectors.float().cpu(), states.float().cpu(), dim=-1).mean()) >= SAME
