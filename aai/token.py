"""Sound tokens: a sound as one word of a text encoder, e = s f_a/|f_a| + f_adapter, and its file.

The file is a plain textual-inversion embedding in safetensors (ComfyUI's `embedding:` and diffusers'
`load_textual_inversion` read it, the latter one of XL's two tensors in each call); the sound, the adapter and
their provenance are in its metadata.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from . import embedding, files
from .embedding import as_name, from_text, is_encoder, is_name, plain, to_text
from .errors import InputError, encodable
from .files import is_file

METADATA = "aai_sound_token"


def word_vectors(f_a: Tensor, scale: float | None, f_adapter: Tensor) -> Tensor:
    """Eq. 6's word e [n, d] of a sound f_a [d] and an adapter [n, d]; differentiable.

    `scale` s gives s f_a/|f_a| + f_adapter; None is the paper's literal f_a + f_adapter.
    """
    if f_a.shape[-1] != f_adapter.shape[-1]:
        raise InputError(
            f"The sound embedding has {f_a.shape[-1]} numbers, but the text encoder's words have "
            f"{f_adapter.shape[-1]}: use a sound encoder that was aligned with this text encoder."
        )
    return (f_a if scale is None else scale * F.normalize(f_a, dim=-1)) + f_adapter


def load(path: str | os.PathLike) -> SoundToken:
    """Reads a token of ours, or anyone's embedding: diffusers' and ComfyUI's safetensors, A1111's `.pt`.

    A foreign embedding has vectors only (`f_a` is None), and its file's name. Nothing in a file is ever
    executed. Raises InputError for a file that is missing, damaged or no embedding.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"There is no sound token '{path}': check its name.")
    tensors, metadata = embedding.read(path)
    if METADATA not in metadata:
        # Many have the same name inside (emb_params, *); people know a file by its own.
        vectors = embedding.vectors_of(tensors, path)
        return SoundToken(embedding.name_of(path.stem), vectors, provenance={"file": path.name})
    try:
        return _ours(tensors, json.loads(metadata[METADATA]))
    # A tensor that does not fill its shape is a RuntimeError.
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"'{path.name}' is no whole sound token ({error}): save it again or train a new one."
        ) from error


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a sound token that this package wrote."""
    return METADATA in files.metadata(path)


@dataclass(frozen=True, eq=False)
class Translation:
    """An affine map of low rank from a sound encoder's space into a text encoder's of another width.

    y(x) = mean_out + up down (x - mean_in), for sounds x of length one: mean_in [d], mean_out [D], down
    [r, d], up [D, r]; in float16, as a token's file keeps them, so that a token read again is the very one.
    `aai.adapt.translation` fits it.
    """

    mean_in: Tensor
    mean_out: Tensor
    down: Tensor
    up: Tensor

    def __call__(self, f_a: Tensor) -> Tensor:
        """f_a [d] as [D]; its length stays with it."""
        if f_a.shape[-1] != self.mean_in.shape[-1]:
            raise InputError(
                f"The sound embedding has {f_a.shape[-1]} numbers, but this token was made from sounds of "
                f"{self.mean_in.shape[-1]}: use the encoder that it was trained with."
            )
        mean_in, mean_out, down, up = (t.to(f_a) for t in (self.mean_in, self.mean_out, self.down, self.up))
        return f_a.norm() * (mean_out + up @ (down @ (F.normalize(f_a, dim=-1) - mean_in)))

    def fits(self, width_in: int, width_out: int) -> bool:
        """Whether its parts map [width_in] to [width_out]."""
        rank = self.down.shape[:1]
        shapes = [self.mean_in.shape, self.mean_out.shape, self.down.shape, self.up.shape]
        return shapes == [(width_in,), (width_out,), (*rank, width_in), (width_out, *rank)]


@dataclass(frozen=True, eq=False)
class SoundToken:
    """A sound as a word A*.

    name: what a prompt calls it, `<name>`.
    vectors: per text encoder ("clip_l", "clip_g", "clip_h", "t5xxl", "qwen3_4b" ...), the embeddings at its
    place in a prompt, [n, d].
    f_a: the sound's embedding [d] of any length, or None for a foreign embedding.
    f_adapter: the trained part per encoder, [n, d].
    scale: per encoder the length s that f_a enters with; None where it enters as it is (eq. 6 to the letter).
    loudness: the sound's, in LUFS. provenance: where the token comes from, in words.
    translation: per encoder that f_a was not aligned with, the map by which it enters; others take f_a as it
    is.
    momentum: the training's state, to resume it: the last step's f_adapter and Adam's moments, the moving
    average and the best f_adapter so far, where there are such.
    measured: of a training with validation, the lowest loss ("best"), the step of the last measurement
    ("step"), and how many measurements have brought no lower one since ("waited").
    """

    name: str
    vectors: dict[str, Tensor]
    f_a: Tensor | None = None
    f_adapter: dict[str, Tensor] = field(default_factory=dict)
    scale: dict[str, float | None] = field(default_factory=dict)
    loudness: float | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    translation: dict[str, Translation] = field(default_factory=dict)
    momentum: dict[str, Tensor] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "name", as_name(self.name))
        if not is_name(self.name):
            raise InputError(
                f"{self.name!r} cannot name a sound token: take letters, digits, spaces and . + - _, at "
                "most 100."
            )
        if not self.vectors or not all(map(is_encoder, self.vectors)):
            found = ", ".join(self.vectors) or "none"
            raise InputError(
                f"The sound token '{self.name}' needs vectors for text encoders (clip_l, t5xxl, qwen3_4b and "
                f"the like); it has {found}."
            )
        if any(v.ndim != 2 or 0 in v.shape for v in self.vectors.values()):
            shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in self.vectors.items())
            raise InputError(
                f"The sound token '{self.name}' needs vectors of shape [n, width]; it has {shapes}."
            )
        if len({len(v) for v in self.vectors.values()}) != 1:
            raise InputError(
                f"The sound token '{self.name}' needs as many vectors for each of its text encoders."
            )

    @property
    def size(self) -> int:
        """The number of positions that it takes in a prompt."""
        return len(next(iter(self.vectors.values())))

    def entering(self, encoder: str, f_a: Tensor) -> Tensor:
        """A sound f_a [d] in the space of a text encoder's words [D]: translated where this token does so."""
        translate = self.translation.get(encoder)
        return f_a if translate is None else translate(f_a)

    def describe(self) -> str:
        """Where the token comes from, a line for each entry; its loudness and its share of the sound too."""
        lines = [f"name: {self.name}"]
        lines += [f"{k.replace('_', ' ')}: {v}" for k, v in self.provenance.items()]
        widths = ", ".join(f"{k} {v.shape[0]} x {v.shape[1]}" for k, v in self.vectors.items())
        lines.append(f"vectors: {widths}")
        if self.loudness is not None:
            lines.append(f"loudness: {self.loudness:.1f} LUFS")
        lines += [f"cos(e, f_a) in {k}: {v:.2f}" for k, v in self.cosine().items()]
        return "\n".join(map(encodable, lines))

    def fitted(self, f_a: Tensor) -> Tensor:
        """A sound as the adapter has learned to take it: of length one, where the token's own is. Older
        encoders normalised every sound, and some still do."""
        of_length_one = self.f_a is not None and abs(float(self.f_a.norm()) - 1) < 1e-3
        return F.normalize(f_a, dim=-1) if of_length_one else f_a

    def with_sound(
        self, f_a: Tensor, loudness: float | None = None, provenance: Mapping[str, str] | None = None
    ) -> SoundToken:
        """The same adapter with another sound (Fig. 6b): e' = s f_a'/|f_a'| + f_adapter; of length one, where
        the token's own is.

        The sound's entry in the provenance moves to `adapter_sound`; `provenance` adds the new one's.
        Raises InputError for an embedding that carries no adapter, or a sound of another width.
        """
        if not self.f_adapter:
            raise InputError(
                f"'{self.name}' is a plain embedding without an adapter: only a token trained from a "
                "sound can take another."
            )
        f_a = self.fitted(f_a)
        vectors = {
            k: word_vectors(self.entering(k, f_a.to(v)), self.scale[k], v) for k, v in self.f_adapter.items()
        }
        kept = dict(self.provenance)
        for key in ("sound", "sound_hash"):
            if key in kept:
                kept.setdefault(f"adapter_{key}", kept.pop(key))
                kept.pop(key, None)
        return replace(
            self,
            vectors=vectors,
            f_a=f_a,
            loudness=loudness,
            provenance={**kept, **(provenance or {})},
            momentum={},
            measured={},
        )

    def cosine(self) -> dict[str, float]:
        """cos(e, f_a) per text encoder, the mean over the token's vectors: how much of the sound is in
        the word."""
        if self.f_a is None:
            return {}
        sounds = {k: self.entering(k, self.f_a.to(v)) for k, v in self.vectors.items()}
        return {
            k: float(F.cosine_similarity(v, sounds[k][None], dim=-1).mean())
            for k, v in self.vectors.items()
            if v.shape[1] == sounds[k].shape[-1]
        }

    def save(self, path: str | os.PathLike) -> None:
        """Writes the token in one move; with one text encoder, exactly one tensor, called `<name>`.

        Raises InputError where the disk does not take it; a file that stood there then stays as it was.
        """
        if len(self.vectors) == 1:
            tensors = {f"<{self.name}>": plain(next(iter(self.vectors.values())))}
        else:
            tensors = {k: plain(v) for k, v in self.vectors.items()}
        notes = {
            "version": 1,
            "name": self.name,
            "encoders": list(self.vectors),
            "f_a": None if self.f_a is None else to_text(self.f_a),
            "f_adapter": {k: to_text(v) for k, v in self.f_adapter.items()},
            "scale": {k: _number_to_text(v) for k, v in self.scale.items()},
            "loudness": _number_to_text(self.loudness),
            "provenance": {str(k): str(v) for k, v in self.provenance.items()},
            "translation": {
                k: {part.name: to_text(getattr(v, part.name)) for part in fields(v)}
                for k, v in self.translation.items()
            },
            "momentum": {k: to_text(v) for k, v in self.momentum.items()},
            "measured": {k: _number_to_text(v) for k, v in self.measured.items()},
        }
        files.write_safetensors(path, tensors, {METADATA: json.dumps(notes)}, "The sound token")


def _ours(tensors: dict[str, Tensor], notes: dict) -> SoundToken:
    encoders = notes["encoders"]
    vectors = list(tensors.values()) if len(encoders) == 1 else [tensors[k] for k in encoders]
    if len(tensors) != len(encoders):
        raise ValueError(f"{len(tensors)} tensors for {len(encoders)} text encoders")
    token = SoundToken(
        name=notes["name"],
        vectors=dict(zip(encoders, vectors)),
        f_a=None if notes["f_a"] is None else from_text(notes["f_a"]),
        f_adapter={k: from_text(v) for k, v in notes["f_adapter"].items()},
        scale={k: _number_from_text(v) for k, v in notes["scale"].items()},
        loudness=_number_from_text(notes["loudness"]),
        provenance=dict(notes["provenance"]),
        # Older tokens have none of these.
        translation={
            k: Translation(**{part: from_text(data) for part, data in v.items()})
            for k, v in notes.get("translation", {}).items()
        },
        momentum={k: from_text(v) for k, v in notes.get("momentum", {}).items()},
        measured={k: _number_from_text(v) for k, v in notes.get("measured", {}).items()},
    )
    _check(token)
    return token


def _check(token: SoundToken) -> None:
    """Raises ValueError for content that no saved token has."""
    parts = {f"vectors of {k}": v for k, v in token.vectors.items()}
    parts |= {f"adapter of {k}": v for k, v in token.f_adapter.items()}
    parts |= {f"training's {k}": v for k, v in token.momentum.items()}
    for encoder, translation in token.translation.items():
        parts |= {f"translation of {encoder}": v for v in vars(translation).values()}
    if token.f_a is not None:
        parts["sound"] = token.f_a
    for what, values in parts.items():
        if not values.is_floating_point() or not torch.isfinite(values).all():
            raise ValueError(f"its {what} holds what are no numbers of a word")
    if token.f_a is not None and token.f_a.ndim != 1:
        raise ValueError(f"its sound has the shape {list(token.f_a.shape)}")
    for encoder, adapter in token.f_adapter.items():
        if encoder not in token.vectors or adapter.shape != token.vectors[encoder].shape:
            raise ValueError(f"its adapter of {encoder} does not go with its vectors")
        if encoder not in token.scale:
            raise ValueError(f"it has no scale for {encoder}")
    for encoder, translation in token.translation.items():
        sound, vectors = token.f_a, token.vectors.get(encoder)
        if sound is None or vectors is None or not translation.fits(len(sound), vectors.shape[1]):
            raise ValueError(f"its translation of {encoder} does not go with its sound and vectors")
    for encoder, scale in token.scale.items():
        if scale is not None and not math.isfinite(scale):
            raise ValueError(f"its scale for {encoder} is {scale}")
    if token.measured:
        counts = [token.measured["step"], token.measured["waited"]]
        # The best is infinite before the first measurement.
        if math.isnan(token.measured["best"]) or not all(math.isfinite(count) for count in counts):
            raise ValueError("what its training measured is no number")
    # Silence is -inf.
    if token.loudness is not None and not token.loudness < math.inf:
        raise ValueError(f"its loudness is {token.loudness}")
    steps = token.provenance.get("steps", "0")
    words = all(isinstance(value, str) for value in token.provenance.values())
    # Python reads no number of thousands of digits.
    if not words or not steps.isdecimal() or len(steps) > 9:
        raise ValueError(f"it says that it was trained for {steps!r} steps")


def _number_to_text(value: float | None) -> str | None:
    # Text, because JSON has no infinity, and silence is -inf LUFS.
    return None if value is None else repr(float(value))


def _number_from_text(value: str | None) -> float | None:
    return None if value is None else float(value)
