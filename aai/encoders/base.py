"""Sound encoders: sounds as vectors in a text encoder's space.

`SoundEncoder` is what every family offers: CAV-MAE (`cavmae_encoder.py`), CLAP (`clap.py`) and CLAP behind a
bridge (`bridged_clap.py`). `loaders.py` saves and loads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import SHORTEST, SILENCE_LUFS, Sound, loudness, sound_hash
from ..errors import InputError


@dataclass(frozen=True, eq=False)
class SoundEmbedding:
    """A sound's embedding: f_a [dim], not normalised, its loudness in LUFS, and where both come from: the
    sound's name, its hash and the encoder's name.

    `labels` and `label_vectors` [L, dim] are the words that the encoder knows, in f_a's space: what a map
    into another space can be fitted on. An encoder that is not aligned yet has none.
    """

    f_a: Tensor
    loudness: float
    sound: str
    encoder: str
    labels: list[str] = field(default_factory=list)
    label_vectors: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    hash: str = ""


class SoundEncoder(Protocol):
    """Sounds as vectors in the text encoder's space.

    A window is `seconds` long at `rate` Hz. `labels` and `label_vectors` [L, dim] are the words that the
    encoder knows (none before it is aligned: [] and [0, dim]); `tau` is the temperature of their scores.
    `space` names the text encoder whose space it is, "" where that is not known. `notes` say where the
    encoder comes from. `family` names its kind in files.

    A family that `sees` is a `VisualEncoder` too. For the others, pictures are found through the CLIP of
    `space`.
    """

    family: str
    sees: bool
    name: str
    rate: int
    seconds: float
    dim: int
    labels: list[str]
    label_vectors: Tensor
    tau: float
    space: str
    notes: dict[str, str]

    def embed(self, sounds: list[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one; with `own_length` as long
        as the features are before they are normalised, for eq. 6 to the letter. CLAP and a bridge only give
        length one."""

    def to(self, device: torch.device | str) -> SoundEncoder:
        """Moves the towers to a device; returns the encoder. Embeddings come from there."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The family's own weights and settings, from which its `restore` makes the encoder again."""


class VisualEncoder(SoundEncoder, Protocol):
    """A sound encoder that embeds pictures in the same space. `image_size` is its tower's side in pixels."""

    image_size: int

    def embed_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] to [B, dim] of length one."""

    def visual_parameters(self) -> list[nn.Parameter]:
        """The weights that pictures pass: training the audio branch leaves them as they are."""


def encode_sound(encoder: SoundEncoder, sound: Sound, name: str = "") -> SoundEmbedding:
    """One sound through an encoder, with its loudness.

    Raises InputError for silence (no part of it above BS.1770's gate of -70 LUFS) and for less than
    SHORTEST seconds.
    """
    called = f"'{name}'" if name else "The sound"
    if sound.seconds < SHORTEST:
        raise InputError(
            f"{called} lasts {sound.seconds:.2f} s, too short to hear: take {SHORTEST:g} s or more."
        )
    level = loudness(sound)
    if level == SILENCE_LUFS:
        raise InputError(
            f"{called} is silent (below -70 LUFS): choose a part with sound in it, or make it louder."
        )
    if len(sound.waveform) > 1 and loudness(sound.mono()) == SILENCE_LUFS:
        raise InputError(
            f"{called} has channels that cancel each other out when they are mixed: take one of them alone."
        )
    f_a = encoder.embed([sound], own_length=True)[0].cpu()
    return SoundEmbedding(
        f_a,
        level,
        name or sound_hash(sound)[:12],
        encoder.name,
        list(encoder.labels),
        encoder.label_vectors.float().cpu(),
        sound_hash(sound),
    )


def nearest_words(encoder: SoundEncoder, embeddings: Tensor, k: int = 5) -> list[list[tuple[str, float]]]:
    """The k labels nearest to each of [B, dim], with scores that add up to 1 over all labels; none from an
    encoder without labels."""
    cosine = F.normalize(embeddings.float().cpu(), dim=-1) @ encoder.label_vectors.float().cpu().T
    scores, rows = (cosine / encoder.tau).softmax(-1).topk(min(k, len(encoder.labels)), dim=-1)
    return [
        [(encoder.labels[i], float(s)) for i, s in zip(row, score)]
        for row, score in zip(rows.tolist(), scores.tolist())
    ]
