"""SoundWorld's shipped weights, loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import Unreadable, read_safetensors
from .text import build_text_tower, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapt.universal import SoundAdapter
    from ..encoders.cavmae_encoder import CAVMAEEncoder
    from ..picture.diffusers import DiffusersPictureModel
    from ..picture.model import PictureModel
    from .oracle import Oracle


WEIGHTS = Path(__file__).parent / "weights"


def weights_file(name: str, folder: Path = WEIGHTS) -> Path:
    """The path of a weight file ("unet", "text", "autoencoder", "sound_encoder", "oracle", "adapter_unet").

    Raises InputError where it is missing.
    """
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise InputError(
            f"SoundWorld's weights are missing ({path}): fetch the project whole, or make them with "
            "`python -m aai.soundworld.build`."
        )
    return path


def read_weights(name: str, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """A weight file's tensors, as float32. Raises InputError for a file that is missing or damaged."""
    path = weights_file(name, folder)
    try:
        tensors, _ = read_safetensors(path, mapped=True)
    except Unreadable as error:
        raise InputError(
            f"SoundWorld's weights '{path}' cannot be read ({error}): fetch the project whole."
        ) from error
    return {key: value.float() for key, value in tensors.items()}


def load_sound_encoder(folder: Path = WEIGHTS) -> CAVMAEEncoder:
    from ..encoders.loaders import load

    return load(weights_file("sound_encoder", folder))


def load_picture_model(folder: Path = WEIGHTS) -> DiffusersPictureModel:
    """SoundWorld's Stable Diffusion through diffusers and transformers."""
    from ..picture.diffusers import DiffusersPictureModel
    from .models import SCHEDULER_CONFIG, UNET_FAMILY, PatchAutoencoder, build_unet

    unet = build_unet()
    unet.load_state_dict(read_weights("unet", folder))
    tokenizer, text_encoder = load_text(folder)
    autoencoder = PatchAutoencoder()
    autoencoder.load_state_dict(read_weights("autoencoder", folder))
    return DiffusersPictureModel(
        unet, text_encoder, tokenizer, autoencoder, SCHEDULER_CONFIG, family=UNET_FAMILY
    )


def load_adapter(model: PictureModel, folder: Path = WEIGHTS) -> SoundAdapter:
    """The universal adapter that comes with SoundWorld for one of its picture models.

    Raises InputError for any other picture model.
    """
    from ..adapt.base import base_of
    from ..adapt.universal import WITHOUT
    from ..adapt.universal_file import load
    from .models import FLOW_FAMILY, UNET_FAMILY

    name = {UNET_FAMILY: "adapter_unet", FLOW_FAMILY: "adapter_flow"}.get(model.family)
    if name is None or not (folder / f"{name}.safetensors").is_file():
        raise InputError(
            f"There is no sound adapter for this model ({base_of(model)}): train one with aai adapt train, "
            f"or the node Train Sound Adapter, and give it; {WITHOUT}."
        )
    return replace(load(weights_file(name, folder)), name="SoundWorld")


def load_oracle(folder: Path = WEIGHTS) -> Oracle:
    from .oracle import Oracle

    oracle = Oracle()
    oracle.load_state_dict(read_weights("oracle", folder))
    return oracle.eval().requires_grad_(False)


def load_text(folder: Path) -> tuple:
    """The tokenizer and the trained text tower of a weights folder."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = build_text_tower(tokenizer)
    own = model.state_dict()
    # Files hold transformers' published keys (text_model.*); transformers 5 leaves the prefix out in memory.
    saved = {
        key if key in own else key.removeprefix("text_model."): v
        for key, v in read_weights("text", folder).items()
    }
    model.load_state_dict(saved)
    return tokenizer, model.eval().requires_grad_(False)
