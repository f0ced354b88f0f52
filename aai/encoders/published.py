"""Public files of sound encoders: their tensors, and a model filled with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import InputError
from ..files import Unreadable, is_file, read_weights

OPTIONAL = ("num_batches_tracked", "window")
"""Ends of names that a file may lack: they are no weights."""
SHOWN = 3
"""How many of the names that a file lacks are said."""


def read_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a file that somebody published, without the prefix `module.`; a file of torch's, which
    is a pickle of which nothing is executed, or safetensors. They stay on the disk until used.

    Raises InputError for a file that is missing, or cannot be read as tensors alone.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"There is no sound encoder's file '{path}': check its name and folder.")
    try:
        tensors = read_weights(path, mapped=True)
    except Unreadable as error:
        raise InputError(
            f"'{path.name}' cannot be read as a file of tensors alone ({error}): download it again; a "
            "pickle that holds more is never opened."
        ) from error
    # PyTorch Lightning's checkpoints.
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise InputError(
            f"'{path.name}' holds more than named tensors: choose a file as it was published, such as "
            "CAV-MAE's audio_model.21.pth."
        )
    return {str(key).removeprefix("module."): value for key, value in tensors.items()}


def fill(model: nn.Module, tensors: Mapping[str, Tensor], file: str, whose: str) -> None:
    """Loads a model's weights from the tensors of the public file called `file`, which may hold others too;
    `whose` says whose they are, and where such a file is to be had.

    Raises InputError, which names the first, where the file lacks weights or holds some of another size.
    """
    own = model.state_dict()
    lacking = [key for key in own if key not in tensors and not key.endswith(OPTIONAL)]
    if lacking:
        named = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
        raise InputError(
            f"'{file}' is of another version: it lacks {len(lacking)} of the {len(own)} weights of {whose} "
            f"({named}); take that file."
        )
    given = {key: tensors[key] for key in own if key in tensors}
    wrong = [key for key in given if own[key].shape != given[key].shape]
    if wrong:
        raise InputError(
            f"'{file}' is of another version: {wrong[0]} is {list(given[wrong[0]].shape)}, in {whose} "
            f"{list(own[wrong[0]].shape)}; take that file."
        )
    model.load_state_dict(given, strict=False)


def torchvision_models():
    """torchvision's models, which public towers are made of. Raises InputError where it does not start."""
    try:
        # It takes long to import, and only these towers need it.
        from torchvision import models
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"This sound encoder needs torchvision, which does not start here ({error}): install the one of "
            "your torch's version."
        ) from error
    return models
