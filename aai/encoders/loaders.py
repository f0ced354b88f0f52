"""Saving and loading sound encoders of any family: one safetensors file with the weights, a table
of labels and their text vectors, and the settings as metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .. import files
from ..errors import InputError
from ..files import is_dir, is_file
from .audioclip import AudioCLIPEncoder
from .base import SoundEncoder
from .bridged_clap import BridgedCLAP
from .cavmae_checkpoint import encoder_of, load_published, of_tensors
from .cavmae_encoder import CAVMAEEncoder
from .clap import load_folder
from .clip_space import CLIPSpaceEncoder
from .known import Known
from .published import read_tensors
from .sgsim import SGSIMEncoder
from .wav2clip import Wav2CLIPEncoder

FORMAT = "aai-sound-encoder-1"
RIVALS = {
    "audio.fbsp.": AudioCLIPEncoder,
    "audio_encoder.": Wav2CLIPEncoder,
    "feature_extractor.": SGSIMEncoder,
}
"""How a weight's name begins in the public files of the encoders that the paper compares with."""
FAMILIES = {family.family: family for family in (CAVMAEEncoder, BridgedCLAP, *RIVALS.values())}
"""The families that have files of ours."""
SETTINGS = (
    *("format", "family", "name", "labels", "tau", "space", "known"),
    *("config", "padding", "extractor", "bridge"),
)
"""The keys of the metadata that are settings; all others are notes."""
SOURCES = (
    "Public ones: CAV-MAE (audio_model.21.pth, github.com/YuanGongND/cav-mae, BSD-2-Clause) and LAION-CLAP "
    "(the folder of huggingface.co/laion/clap-htsat-unfused, Apache-2.0)."
)


def save(
    encoder: SoundEncoder, path: str | os.PathLike, dtype: torch.dtype = torch.float16, **notes: str
) -> None:
    """Writes an encoder in one move; `notes` (how it was made) join its own in the metadata.

    Raises InputError for a family that has no file of its own, and where the disk does not take it.
    """
    if encoder.family not in FAMILIES:
        raise InputError(
            f"'{encoder.name}' is in no text encoder's space yet, and its folder keeps it: bridge it, "
            "then save that."
        )
    weights, settings = encoder.state()
    # Copies: a shared block has two names, and safetensors takes no aliases.
    tensors = {
        f"model.{k}": v.detach().to("cpu", dtype if v.is_floating_point() else v.dtype, copy=True)
        for k, v in weights.items()
    }
    tensors["label_vectors"] = encoder.label_vectors.float()
    known = {}
    if encoder.known is not None:
        parts, numbers = encoder.known.state()
        tensors |= {f"known.{name}": part.float() for name, part in parts.items()}
        known["known"] = json.dumps(numbers)
    metadata = {
        **encoder.notes,
        **notes,
        **settings,
        **known,
        "format": FORMAT,
        "family": encoder.family,
        "name": encoder.name,
        "labels": json.dumps(encoder.labels),
        "tau": str(encoder.tau),
        "space": encoder.space,
    }
    files.write_safetensors(path, tensors, metadata, "The sound encoder")


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a sound encoder that this package wrote."""
    return files.metadata(path).get("format") == FORMAT


def load(path: str | os.PathLike) -> SoundEncoder:
    """Reads an encoder: a file that `save` wrote, a public file of CAV-MAE, Wav2CLIP, AudioCLIP or SGSIM
    (.pth, .pt or safetensors), or the folder of a CLAP as transformers keeps it.

    All but the first know no words. Raises InputError for a missing file, one that is
    none of these, and one that lacks weights.
    """
    path = Path(path)
    if is_dir(path):
        return load_folder(path)[0]
    if not is_file(path):
        raise InputError(
            f"There is no sound encoder '{path}': check its name, or use SoundWorld's. {SOURCES}"
        )
    if path.suffix.lower() in (".pth", ".pt", ".bin", ".ckpt"):
        return _published(path)
    try:
        tensors, metadata = files.read_safetensors(path, mapped=True)
    except files.Unreadable as error:
        raise InputError(
            f"'{path.name}' is no readable safetensors file ({error}): convert it, others are never opened."
        ) from error
    if metadata.get("format") != FORMAT:
        return _published(path)
    kinds = {k: torch.float32 if v.is_floating_point() else v.dtype for k, v in tensors.items()}
    # Copies, so that the file is not held open.
    return _restored({k: v.to(kinds[k], copy=True) for k, v in tensors.items()}, metadata, path.name)


def rival_of(tensors: Mapping[str, Tensor], file: str) -> CLIPSpaceEncoder | None:
    """An encoder of a public file of one of RIVALS, None for another's. Raises InputError where it is not
    whole."""
    for begin, family in RIVALS.items():
        if any(key.startswith(begin) for key in tensors):
            return family.published(tensors, file)
    return None


def _published(path: Path) -> SoundEncoder:
    tensors = read_tensors(path)
    return rival_of(tensors, path.name) or encoder_of(of_tensors(tensors, path.name))


def _restored(tensors: dict[str, Tensor], metadata: dict[str, str], file: str) -> SoundEncoder:
    family = FAMILIES.get(metadata.get("family", ""))
    if family is None or "label_vectors" not in tensors:
        raise InputError(
            f"'{file}' holds a sound encoder of the family '{metadata.get('family')}', not one of "
            f"{', '.join(FAMILIES)}: take a newer version of this pack, or another file."
        )
    vectors = tensors.pop("label_vectors")
    test = {k.removeprefix("known."): tensors.pop(k) for k in list(tensors) if k.startswith("known.")}
    weights = {key.removeprefix("model."): value for key, value in tensors.items()}
    try:
        labels = json.loads(metadata["labels"])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are not a list of words")
        common = dict(
            labels=labels,
            tau=float(metadata["tau"]),
            name=metadata["name"],
            space=metadata.get("space", ""),
            known=Known.restore(test, json.loads(metadata["known"]), vectors.shape[1]) if test else None,
            notes={k: v for k, v in metadata.items() if k not in SETTINGS},
        )
        if len(vectors) != len(common["labels"]):
            raise InputError(
                f"'{file}' names {len(common['labels'])} labels but holds vectors of shape "
                f"{tuple(vectors.shape)}: save or download it again."
            )
        encoder = family.restore(weights, metadata, file, label_vectors=vectors, **common)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise InputError(
            f"'{file}' has settings that cannot be read ({error}): save or download it again."
        ) from error
    if vectors.shape[1] != encoder.dim:
        raise InputError(
            f"'{file}' holds vectors of shape {tuple(vectors.shape)} for sounds of {encoder.dim} numbers: "
            "save or download it again."
        )
    return encoder


def load_start(path: str | os.PathLike) -> CAVMAEEncoder:
    """The encoder that a training starts from: one that this pack saved, or a public CAV-MAE file.

    Raises InputError where either does, and for an encoder of another family.
    """
    path = Path(path)
    if not is_ours(path):
        return load_published(path)
    encoder = load(path)
    if not isinstance(encoder, CAVMAEEncoder):
        raise InputError(
            f"'{path.name}' is an encoder of another family ({encoder.name}): choose a CAV-MAE, which "
            "alone is tuned this way."
        )
    return encoder
