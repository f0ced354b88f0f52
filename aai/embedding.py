"""Textual-inversion files of anyone: diffusers' and ComfyUI's safetensors, A1111's `.pt`.

Nothing in a file is ever executed: a pickle is opened as plain tensors or not at all.
"""

from __future__ import annotations

import base64
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import InputError

WIDTHS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
"""Which text encoder an embedding of a width belongs to, where its file does not say."""
ENCODERS = ("clip_l", "clip_g", "clip_h")

NAME = re.compile(r"\w[\w .+-]{0,99}")
"""What may name a token: no path, no mark of a prompt's."""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors and metadata (a `.pt` or `.bin` has none).

    Raises InputError for a file that is damaged, holds more than tensors, or holds too many.
    """
    if path.suffix.lower() in (".pt", ".bin"):
        return _read_torch(path), {}
    return _read_safetensors(path)


def vectors_of(state: object, path: Path) -> tuple[str, dict[str, Tensor]]:
    """An embedding's name and its vectors {text encoder: [n, d]}, float32.

    The name is what its file states, if that can name a token, else the file's own. Raises InputError for
    tensors that are no embedding.
    """
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
    vectors = {k: v.float().contiguous() for k, v in vectors.items()}
    if not all(torch.isfinite(v).all() for v in vectors.values()):
        raise InputError(f"'{path.name}' holds numbers that are not finite: choose another embedding.")
    name = str(name or "").strip("<> ")
    if not NAME.fullmatch(name):
        name = re.sub(r"[^\w.+-]+", "-", path.stem).strip("-.+")[:100] or "embedding"
    return name, vectors


def plain(values: Tensor) -> Tensor:
    """A copy that safetensors takes: float32, on the CPU, contiguous."""
    return values.detach().to("cpu", torch.float32, copy=True).contiguous()


def to_text(values: Tensor) -> dict:
    """A tensor as JSON: its shape, and its numbers in base64 (float16 where they are so, else float32)."""
    kind, code = ("float16", "<f2") if values.dtype == torch.float16 else ("float32", "<f4")
    data = plain(values).numpy().astype(code).tobytes()
    return {"shape": list(values.shape), kind: base64.b64encode(data).decode("ascii")}


def from_text(held: dict) -> Tensor:
    """The tensor of `to_text`. Raises KeyError or ValueError for anything else."""
    half = "float16" in held
    data = base64.b64decode(held["float16" if half else "float32"], validate=True)
    values = np.frombuffer(data, dtype="<f2" if half else "<f4").astype(np.float16 if half else np.float32)
    return torch.from_numpy(values).reshape(held["shape"])


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
            # Copies: a tensor holds its file open, which Windows then lets nobody replace.
            return {k: file.get_tensor(k).clone() for k in names}, file.metadata() or {}
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
