"""The models that a command names: sound encoders, text towers and picture models, and the device that they
run on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

    from ..encoders.base import SoundEmbedding, SoundEncoder
    from ..encoders.text import TextTower
    from ..picture.model import PictureModel

SOUNDWORLD = "soundworld"
"""The name of the models that come with aai."""
SOUNDWORLD_FLOW = "soundworld-flow"
"""The picture model's that is a flow transformer."""
PICTURE_MODELS = (
    "a diffusers model's folder (Stable Diffusion 1, 2, XL, Flux.1, Z-Image), "
    f"{SOUNDWORLD} or {SOUNDWORLD_FLOW}"
)
"""What --model may name."""


def embed_sound(options: argparse.Namespace, encoder: SoundEncoder) -> SoundEmbedding:
    """The part of `options.sound` that was asked for, through an encoder."""
    from .. import audio
    from ..encoders.base import encode_sound

    sound = audio.load(options.sound, options.start or 0.0, options.length)
    return encode_sound(encoder, sound, Path(options.sound).name)


def load_encoder(name: str | None) -> SoundEncoder:
    """A sound encoder by its file; SoundWorld's by its name, or without one."""
    if name in (None, SOUNDWORLD):
        from ..soundworld.loaders import load_sound_encoder

        return load_sound_encoder()
    from ..encoders.loaders import load

    return load(name)


def load_text_tower(name: str) -> TextTower:
    if name == SOUNDWORLD:
        from ..soundworld.loaders import WEIGHTS, load_text
        from ..soundworld.text import CaptionEncoder

        return CaptionEncoder(*load_text(WEIGHTS))
    from ..encoders.clip import load_clip_text

    return load_clip_text(name)


def load_model(name: str, device: str | None, dtype: str | None = "float32") -> PictureModel:
    """A picture model on a device, in a dtype; without one, in float32 on a CPU and float16 elsewhere
    (bfloat16 for a flow transformer)."""
    import torch

    target = device_of(device)
    precision = getattr(torch, dtype or ("float32" if target.type == "cpu" else "float16"))
    if name in (SOUNDWORLD, SOUNDWORLD_FLOW):
        from ..soundworld.loaders import load_picture_model

        kind = "flow" if name == SOUNDWORLD_FLOW else "unet"
        return load_picture_model(model=kind).to(target, precision)
    from ..picture.diffusers import load

    return load(name, precision).to(target)


def check_editable(model: PictureModel, scale_alone: bool = False) -> None:
    """Raises InputError for a model that takes no edit, or no sound's scale without one, before any work is
    done for it."""
    model.check_editable()
    if scale_alone and model.joint:
        raise InputError(
            f"The scale of one word does next to nothing in the attention of {model.family}: use `aai edit` "
            "with a scale, or ComfyUI's Loudness Reweight."
        )


def device_of(name: str | None) -> torch.device:
    """The device of this name, or without one the best of this machine. Raises InputError for one that
    it does not have."""
    import torch

    if name is None:
        return _best_device()
    try:
        # torch may know a device by name that is not there, or that holds no numbers ("meta").
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(
            f"There is no device '{name}' here that torch can use: name another, or leave --device out."
        ) from error
    return torch.device(name)


def _best_device() -> torch.device:
    import torch

    # torch.accelerator came with torch 2.6.
    if hasattr(torch, "accelerator") and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(kind)
