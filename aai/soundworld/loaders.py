"""SoundWorld's shipped weights, loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import Unreadable, metadata, read_safetensors
from .text import build_text_tower, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..adapt.universal import SoundAdapter
    from ..encoders.cavmae_encoder import CAVMAEEncoder
    from ..encoders.presence import Presence
    from ..picture.diffusers import DiffusersPictureModel
    from ..picture.flow import FlowPictureModel
    from ..picture.model import PictureModel
    from .oracle import EventsOracle, Oracle


WEIGHTS = Path(__file__).parent / "weights"
PRESENCE = "presence"


def weights_file(name: str, folder: Path = WEIGHTS) -> Path:
    """The path of a weight file ("unet", "flow", "text", "autoencoder", "sound_encoder", "oracle",
    "oracle_events", "adapter_unet", "adapter_flow", "presence").

    Raises InputError where it is missing.
    """
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise InputError(
            f"SoundWorld's weights are missing ({path}): fetch the project whole, or make them in a "
            "clone with `python -m aai.soundworld.build --export`."
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

    encoder = load(weights_file("sound_encoder", folder))
    encoder.presence = _presence_of(encoder, folder)
    return encoder


def _presence_of(encoder: CAVMAEEncoder, folder: Path) -> Presence | None:
    """What tells which words a recording has; None where the folder has none that was made for this
    encoder."""
    from ..encoders.fingerprint import encoder_fingerprint
    from ..encoders.presence import Presence

    path = folder / f"{PRESENCE}.safetensors"
    if metadata(path).get("encoder") != encoder_fingerprint(encoder.family, encoder.state()[0]):
        return None
    return Presence.restore(read_weights(PRESENCE, folder), path.name, encoder.dim, len(encoder.labels))


def load_picture_model(
    folder: Path = WEIGHTS, model: str = "unet"
) -> DiffusersPictureModel | FlowPictureModel:
    """SoundWorld's Stable Diffusion ("unet") or its flow transformer ("flow") through diffusers and
    transformers."""
    from ..picture.diffusers import DiffusersPictureModel
    from .models import SCHEDULER_CONFIG, UNET_FAMILY, PatchAutoencoder, build_flow, build_unet

    denoiser = build_flow() if model == "flow" else build_unet()
    denoiser.load_state_dict(read_weights(model, folder))
    tokenizer, text_encoder = load_text(folder)
    autoencoder = PatchAutoencoder()
    autoencoder.load_state_dict(read_weights("autoencoder", folder))
    if model == "flow":
        return flow_model(denoiser, text_encoder, tokenizer, autoencoder)
    return DiffusersPictureModel(
        denoiser, text_encoder, tokenizer, autoencoder, SCHEDULER_CONFIG, family=UNET_FAMILY
    )


def flow_model(
    transformer: nn.Module, text_encoder: nn.Module, tokenizer, vae: nn.Module
) -> FlowPictureModel:
    """A picture model of the parts of SoundWorld's flow transformer."""
    from ..picture.flow import FlowPictureModel
    from ..picture.schedule import Flow
    from ..picture.text_encoder import TextEncoder
    from ..picture.velocity import velocity_of
    from .models import FLOW_FAMILY, FLOW_GUIDANCE, IMAGE_SIZE, TEXT_PLACES

    return FlowPictureModel(
        velocity_of(transformer),
        {"clip_l": TextEncoder(tokenizer, text_encoder, TEXT_PLACES)},
        vae,
        Flow(),
        FLOW_FAMILY,
        native_size=IMAGE_SIZE,
        guidance=FLOW_GUIDANCE,
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


def load_events_oracle(folder: Path = WEIGHTS) -> EventsOracle:
    from .oracle import EventsOracle

    oracle = EventsOracle()
    oracle.load_state_dict(read_weights("oracle_events", folder))
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
