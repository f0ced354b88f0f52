"""Sound tokens: a sound as one word of a text encoder, e = s f_a/|f_a| + f_adapter, and its file.

The file is a plain textual-inversion embedding in safetensors (diffusers' `load_textual_inversion` and
ComfyUI's `embedding:` read it); the sound, the adapter and where they come from stand in its metadata.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import files
from .errors import InputError

WIDTHS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
"""Which text encoder an embedding of a width belongs to, where its file does not say."""
ENCODERS = ("clip_l", "clip_g", "clip_h")
METADATA = "aai_sound_token"

_NAME = re.compile(r"\w[\w .+-]{0,99}")


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

    A foreign embedding has vectors only (`f_a` is None). Nothing in a file is ever executed. Raises
    InputError for a file that is missing, damaged or no embedding.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no sound token '{path}': check its name.")
    if path.suffix.lower() in (".pt", ".bin"):
        return _foreign(_read_torch(path), path)
    tensors, metadata = _read_safetensors(path)
    if METADATA not in metadata:
        return _foreign(tensors, path)
    try:
        return _ours(tensors, json.loads(metadata[METADATA]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"'{path.name}' is no whole sound token ({error}): save it again or train a new one."
        ) from error


@dataclass(frozen=True, eq=False)
class SoundToken:
    """A sound as a word A*.

    name: what a prompt calls it, `<name>`.
    vectors: per text encoder ("clip_l", "clip_g", "clip_h"), what stands at its place in a prompt, [n, d].
    f_a: the sound's embedding [d] of any length, or None for a foreign embedding.
    f_adapter: the trained part per encoder, [n, d].
    scale: per encoder the length s that f_a enters with; None where it enters as it is (eq. 6 to the letter).
    loudness: the sound's, in LUFS. provenance: where the token comes from, in words.
    """

    name: str
    vectors: dict[str, Tensor]
    f_a: Tensor | None = None
    f_adapter: dict[str, Tensor] = field(default_factory=dict)
    scale: dict[str, float | None] = field(default_factory=dict)
    loudness: float | None = None
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"{self.name!r} cannot name a sound token: take letters, digits, spaces and . + - _, at "
                "most 100."
            )
        if not self.vectors or set(self.vectors) - set(ENCODERS):
            found = ", ".join(self.vectors) or "none"
            raise InputError(
                f"The sound token '{self.name}' needs vectors for {', '.join(ENCODERS)}; it has {found}."
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
        """How many words' places it takes in a prompt."""
        return len(next(iter(self.vectors.values())))

    def with_sound(
        self, f_a: Tensor, loudness: float | None = None, provenance: Mapping[str, str] | None = None
    ) -> SoundToken:
        """The same adapter with another sound (Fig. 6b): e' = s f_a'/|f_a'| + f_adapter.

        The sound's entry in the provenance moves to `adapter_sound`; `provenance` adds the new one's.
        Raises InputError for an embedding that carries no adapter, or a sound of another width.
        """
        if not self.f_adapter:
            raise InputError(
                f"'{self.name}' is a plain embedding without an adapter: only a token trained from a "
                "sound can take another."
            )
        vectors = {k: word_vectors(f_a.to(v), self.scale[k], v) for k, v in self.f_adapter.items()}
        kept = dict(self.provenance)
        if "sound" in kept:
            kept.setdefault("adapter_sound", kept.pop("sound"))
            kept.pop("sound", None)
        return replace(
            self, vectors=vectors, f_a=f_a, loudness=loudness, provenance={**kept, **(provenance or {})}
        )

    def cosine(self) -> dict[str, float]:
        """cos(e, f_a) per text encoder, the mean over the token's vectors: how much of the sound is in
        the word."""
        if self.f_a is None:
            return {}
        return {
            k: float(F.cosine_similarity(v, self.f_a.to(v)[None], dim=-1).mean())
            for k, v in self.vectors.items()
            if v.shape[1] == self.f_a.shape[-1]
        }

    def save(self, path: str | os.PathLike) -> None:
        """Writes the token in one move; with one text encoder, exactly one tensor, called `<name>`.

        Raises InputError where the disk does not take it; a file that stood there then stays as it was.
        """
        from safetensors.torch import save

        if len(self.vectors) == 1:
            tensors = {f"<{self.name}>": _plain(next(iter(self.vectors.values())))}
        else:
            tensors = {k: _plain(v) for k, v in self.vectors.items()}
        notes = {
            "version": 1,
            "name": self.name,
            "encoders": list(self.vectors),
            "f_a": None if self.f_a is None else _to_text(self.f_a),
            "f_adapter": {k: _to_text(v) for k, v in self.f_adapter.items()},
            "scale": {k: _number_to_text(v) for k, v in self.scale.items()},
            "loudness": _number_to_text(self.loudness),
            "provenance": {str(k): str(v) for k, v in self.provenance.items()},
        }
        content = save(tensors, metadata={METADATA: json.dumps(notes)})
        files.write(path, content, "The sound token")


def _ours(tensors: dict[str, Tensor], notes: dict) -> SoundToken:
    encoders = notes["encoders"]
    held = list(tensors.values()) if len(encoders) == 1 else [tensors[k] for k in encoders]
    if len(tensors) != len(encoders):
        raise ValueError(f"{len(tensors)} tensors for {len(encoders)} text encoders")
    return SoundToken(
        name=notes["name"],
        vectors=dict(zip(encoders, held)),
        f_a=None if notes["f_a"] is None else _from_text(notes["f_a"]),
        f_adapter={k: _from_text(v) for k, v in notes["f_adapter"].items()},
        scale={k: _number_from_text(v) for k, v in notes["scale"].items()},
        loudness=_number_from_text(notes["loudness"]),
        provenance=dict(notes["provenance"]),
    )


def _foreign(state: object, path: Path) -> SoundToken:
    refusal = InputError(
        f"'{path.name}' is no textual-inversion embedding (one tensor [n, width], or clip_l and clip_g): "
        "choose a sound token or an embedding."
    )
    if not isinstance(state, Mapping):
        raise refusal
    stated = state.get("name")
    if isinstance(state.get("string_to_param"), Mapping):
        state = dict(list(state["string_to_param"].items())[:1])
    if not state or not all(isinstance(v, Tensor) and v.is_floating_point() for v in state.values()):
        raise refusal
    state = {k: v.detach()[None] if v.ndim == 1 else v.detach() for k, v in state.items()}
    if any(v.ndim != 2 or 0 in v.shape for v in state.values()):
        raise refusal
    if set(state) <= set(ENCODERS):
        vectors, name = {k: state[k] for k in ENCODERS if k in state}, stated
    elif len(state) == 1:
        name, rows = next(iter(state.items()))
        vectors, name = {WIDTHS.get(rows.shape[1], "clip_l"): rows}, stated or name
    else:
        raise refusal
    name = str(name or "").strip("<> ")
    if not _NAME.fullmatch(name):
        name = re.sub(r"[^\w.+-]+", "-", path.stem).strip("-.+")[:100] or "embedding"
    return SoundToken(
        name, {k: v.float().contiguous() for k, v in vectors.items()}, provenance={"file": path.name}
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            names = list(file.keys())
            if len(names) > len(ENCODERS):
                raise InputError(
                    f"'{path.name}' holds {len(names)} tensors, a sound token one or two: choose an "
                    "embedding, not a model."
                )
            return {k: file.get_tensor(k) for k in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"'{path.name}' is no readable safetensors file ({error}): it may be damaged, download or "
            "save it again."
        ) from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"'{path.name}' is damaged or holds more than plain tensors, and was not opened: take its "
            "safetensors version."
        ) from error


def _plain(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float32, copy=True).contiguous()


def _to_text(values: Tensor) -> dict:
    data = _plain(values).numpy().astype("<f4").tobytes()
    return {"shape": list(values.shape), "float32": base64.b64encode(data).decode("ascii")}


def _from_text(held: dict) -> Tensor:
    data = np.frombuffer(base64.b64decode(held["float32"], validate=True), dtype="<f4").astype(np.float32)
    return torch.from_numpy(data).reshape(held["shape"])


def _number_to_text(value: float | None) -> str | None:
    # Text, because JSON has no infinity, and silence is -inf LUFS.
    return None if value is None else repr(float(value))


def _number_from_text(value: str | None) -> float | None:
    return None if value is None else float(value)
