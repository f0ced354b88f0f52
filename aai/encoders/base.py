"""Sound encoders: sounds as vectors in a text encoder's space.

`SoundEncoder` is what every family offers: CAV-MAE (`cavmae_encoder.py`), CLAP (`clap.py`) and CLAP behind a
bridge (`bridged_clap.py`). `loaders.py` saves and loads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import SHORTEST, SILENCE_LUFS, Sound, loudness, sound_hash
from ..errors import InputError
from .fingerprint import encoder_fingerprint
from .known import Known


@dataclass(frozen=True, eq=False)
class SoundEmbedding:
    """A sound's embedding: f_a [dim], not normalised, its loudness in LUFS, and where both come from: the
    sound's name, its hash and the encoder's name.

    `labels` and `label_vectors` [L, dim] are the words that the encoder knows, in f_a's space: what a map
    into another space can be fitted on. An encoder that is not aligned yet has none. `known` is the
    probability that the encoder has a word for the sound, and `is_known` what it makes of that; None where
    that is not calibrated. `fingerprint` is the encoder's (`encoder_fingerprint`).
    """

    f_a: Tensor
    loudness: float
    sound: str
    encoder: str
    labels: list[str] = field(default_factory=list)
    label_vectors: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    hash: str = ""
    known: float | None = None
    is_known: bool | None = None
    fingerprint: str = ""

    def provenance(self) -> dict[str, str]:
        """What a token's file says of its sound."""
        known = "" if self.known is None else f"{'yes' if self.is_known else 'no'} ({self.known:.0%})"
        entries = {"sound": self.sound, "sound_hash": self.hash, "encoder": self.encoder, "known": known}
        return {key: value for key, value in entries.items() if value}


class SoundEncoder(Protocol):
    """Sounds as vectors in the text encoder's space.

    A window is `seconds` long at `rate` Hz. `labels` and `label_vectors` [L, dim] are the words that the
    encoder knows (none before it is aligned: [] and [0, dim]); `tau` is the temperature of their scores.
    `space` names the text encoder whose space it is, "" where that is not known. `known` tells whether a
    sound lies within what the encoder knows, None where that was not calibrated; `presence` gives each word's
    probability [L] in a recording, None where none was made for it. `notes` say where the encoder comes from.
    `family` names its kind in files.

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
    known: Known | None
    presence: Callable[[SoundEncoder, Sound], Tensor] | None
    notes: dict[str, str]

    def embed(self, sounds: Iterable[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one; with `own_length` as long
        as the features are before they are normalised, for eq. 6 to the letter. CLAP and a bridge only give
        length one. The sounds are taken one by one, and no more of each is kept than its windows."""

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


class Inaudible(InputError):
    """A sound in which there is nothing to hear."""


def audible_loudness(sound: Sound, name: str = "") -> float:
    """The loudness in LUFS of a sound that can be heard.

    Raises Inaudible for silence (no part of it above BS.1770's gate of -70 LUFS), also where the channels
    leave none when they are mixed, and for less than SHORTEST seconds.
    """
    called = f"'{name}'" if name else "The sound"
    if sound.seconds < SHORTEST:
        raise Inaudible(
            f"{called} lasts {sound.seconds:.2f} s, too short to hear: take {SHORTEST:g} s or more."
        )
    level = loudness(sound)
    # A constant has an edge where it begins, which passes the gate.
    swing = replace(sound, waveform=sound.waveform - sound.waveform.mean(-1, keepdim=True))
    if SILENCE_LUFS in (level, loudness(swing)):
        raise Inaudible(
            f"{called} is silent (below -70 LUFS): choose a part with sound in it, or make it louder."
        )
    if len(sound.waveform) > 1 and loudness(sound.mono()) == SILENCE_LUFS:
        raise Inaudible(
            f"{called} has channels that cancel each other out when they are mixed: take one of them alone."
        )
    return level


def encode_sound(encoder: SoundEncoder, sound: Sound, name: str = "") -> SoundEmbedding:
    """One sound through an encoder, with its loudness. Raises Inaudible as `audible_loudness` does."""
    level = audible_loudness(sound, name)
    f_a = encoder.embed([sound], own_length=True)[0].cpu()
    return SoundEmbedding(
        f_a,
        level,
        name or sound_hash(sound)[:12],
        encoder.name,
        list(encoder.labels),
        encoder.label_vectors.float().cpu(),
        sound_hash(sound),
        *knows(encoder, f_a),
        encoder_fingerprint(encoder.family, encoder.state()[0]),
    )


def knows(encoder: SoundEncoder, f_a: Tensor) -> tuple[float, bool] | tuple[None, None]:
    """The probability that an encoder has a word for the sound of f_a [dim], and what it makes of that; None
    where it is not calibrated."""
    if encoder.known is None:
        return None, None
    known = float(encoder.known.probability(f_a[None])[0])
    return known, known >= encoder.known.threshold


@dataclass(frozen=True)
class NearestWords:
    """The words nearest to a sound with their scores, most first, and the share of "unknown", which they
    leave: over all words of the encoder both add up to 1. It is None where the encoder is not calibrated."""

    words: list[tuple[str, float]]
    unknown: float | None = None

    def with_unknown(self) -> list[tuple[str, float]]:
        """The words, UNKNOWN among them where it has its place."""
        shares = [] if self.unknown is None else [(UNKNOWN, self.unknown)]
        return sorted([*self.words, *shares], key=lambda pair: -pair[1])


UNKNOWN = "unknown"


def nearest_words(encoder: SoundEncoder, embeddings: Tensor, k: int = 5) -> list[NearestWords]:
    """The k labels nearest to each of [B, dim]; none from an encoder without labels."""
    words, known = word_shares(encoder, embeddings)
    shares = known[:, None] * words
    scores, rows = shares.topk(min(k, len(encoder.labels)), dim=-1)
    return [
        NearestWords(
            [(encoder.labels[i], float(s)) for i, s in zip(row, score)],
            None if encoder.known is None else 1 - float(share),
        )
        for row, score, share in zip(rows.tolist(), scores.tolist(), known.tolist())
    ]


def word_shares(encoder: SoundEncoder, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of [B, dim]: what every label's share would be, were the sound known, [B, L], and the
    probability that it is, [B]; 1 where the encoder is not calibrated."""
    f_a = F.normalize(embeddings.float().cpu(), dim=-1)
    cosine = f_a @ encoder.label_vectors.float().cpu().T
    known = torch.ones(len(f_a)) if encoder.known is None else encoder.known.probability(f_a)
    return (cosine / encoder.tau).softmax(-1), known
