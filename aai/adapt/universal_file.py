"""Universal adapters as files: safetensors, with where they come from, checked when they are read."""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import files
from ..embedding import is_encoder
from ..errors import InputError
from ..token import Translation
from .universal import WIDTH, Adapter, SoundAdapter

FORMAT = "aai-sound-adapter-1"
LARGEST = 2**24
"""The most numbers of a sound or of its words that a file may speak of."""


def save(
    adapter: SoundAdapter,
    path: str | os.PathLike,
    dtype: torch.dtype = torch.float32,
    training: bool = False,
) -> None:
    """Writes an adapter in one move, with its `training`'s state or without; with it the file is three times
    as large, and resumes on the same curve.

    Raises InputError where the disk does not take it.
    """
    tensors = {f"g.{k}": v.to("cpu", dtype, copy=True) for k, v in adapter.g.state_dict().items()}
    for key, translation in adapter.translation.items():
        tensors |= {f"translation.{key}.{part}": v.clone() for part, v in vars(translation).items()}
    if training:
        tensors |= {f"training.{k}": v.to("cpu", copy=True) for k, v in adapter.training.items()}
    tensors["losses"] = torch.tensor(adapter.losses, dtype=torch.float64)
    g = adapter.g
    facts = {
        **{f.name: getattr(adapter, f.name) for f in fields(adapter) if f.type in ("str", "int")},
        "settings": adapter.settings,
        "provenance": {str(k): str(v) for k, v in adapter.provenance.items()},
        "dim": adapter.dim,
        "widths": adapter.widths,
        "lengths": g.lengths,
        "rho": g.rho,
        "vectors": g.vectors,
    }
    metadata = {"format": FORMAT, "facts": json.dumps(facts)}
    files.write_safetensors(path, tensors, metadata, "The sound adapter")


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a sound adapter that this package wrote."""
    return files.metadata(path).get("format") == FORMAT


def load(path: str | os.PathLike) -> SoundAdapter:
    """Reads an adapter. Raises InputError for a file that is missing, damaged or something else."""
    path = Path(path)
    if not files.is_file(path):
        raise InputError(
            f"There is no sound adapter '{path}': check its name, or train one (aai adapt train)."
        )
    try:
        tensors, metadata = files.read_safetensors(path)
    except files.Unreadable as error:
        raise InputError(
            f"'{path.name}' is no readable sound adapter ({error}): download or train it again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"'{path.name}' is no sound adapter of this pack: choose a file of aai adapt train.")
    try:
        return replace(_restored(tensors, json.loads(metadata["facts"])), name=path.stem)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        raise InputError(
            f"'{path.name}' is no whole sound adapter ({error}): download or train it again."
        ) from error


def _restored(tensors: dict[str, Tensor], facts: dict) -> SoundAdapter:
    """Raises KeyError, TypeError, ValueError, AttributeError or RuntimeError for what `save` has not
    written."""
    dim, vectors, widths, lengths = facts["dim"], facts["vectors"], facts["widths"], facts["lengths"]
    rho, steps, settings = facts["rho"], facts["steps"], facts["settings"]
    _check(facts)

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

    weights = {key: value.float() for key, value in part("g").items()}
    numbers = sum(value.numel() for value in weights.values())
    if numbers < WIDTH * (dim + WIDTH + vectors * sum(widths.values())):
        raise ValueError("its sizes are those of a larger adapter than its weights")
    g = Adapter(dim, widths, lengths, rho, vectors)
    g.load_state_dict(weights)
    translation: dict[str, dict[str, Tensor]] = {}
    for key, value in part("translation").items():
        encoder, _, name = key.rpartition(".")
        translation.setdefault(encoder, {})[name] = value
    training, losses = part("training"), tensors["losses"]
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"its {key} holds what are no numbers")
    if losses.ndim != 1 or len(losses) not in (0, steps):
        raise ValueError(f"its curve has {list(losses.shape)} losses of {steps} steps")
    adapter = SoundAdapter(
        g.requires_grad_(False),
        **{name: facts[name] for name in ("encoder", "encoder_name", "model", "base", "data", "steps")},
        translation={key: Translation(**parts) for key, parts in translation.items()},
        settings=dict(settings),
        provenance=dict(facts["provenance"]),
        training=training,
        losses=losses.tolist(),
    )
    # What does not go together fails here, and not when the first sound is heard.
    for key, width in widths.items():
        if adapter.entering(key, torch.ones(dim)).shape != (width,):
            raise ValueError(f"a sound of {dim} numbers does not enter words of {width}")
    return adapter


def _check(facts: dict) -> None:
    """Raises TypeError or ValueError for sizes and texts that no saved adapter has."""
    widths, lengths = facts["widths"], facts["lengths"]
    sizes = [facts["dim"], facts["vectors"], *widths.values()]
    if not widths or not all(type(size) is int and 0 < size < LARGEST for size in sizes):
        raise ValueError(f"its sizes are {sizes}")
    if set(lengths) != set(widths) or not all(map(is_encoder, widths)):
        raise ValueError(f"its text encoders are {', '.join(widths)}")
    if not all(math.isfinite(length) and length > 0 for length in lengths.values()):
        raise ValueError("the lengths of its words are no lengths")
    rho, steps = facts["rho"], facts["steps"]
    if not (rho is None or rho > 0) or type(steps) is not int or steps < 0:
        raise ValueError(f"its rho is {rho} and its steps are {steps}")
    texts = [facts[name] for name in ("encoder", "encoder_name", "model", "base", "data")]
    texts += facts["provenance"].values()
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("it does not say in words where it comes from")
