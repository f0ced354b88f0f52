"""SoundWorld: a small world with its own sounds, pictures and models, so that everything runs without a
download."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ..align.encoder import CAVMAEEncoder
    from ..picture.diffusers import DiffusersPictureModel
    from .oracle import Oracle

WEIGHTS = Path(__file__).parent / "weights"


def weights_file(name: str, folder: Path = WEIGHTS) -> Path:
    """The path of a weight file ("unet", "text", "autoencoder", "sound_encoder", "oracle").

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
    """A weight file's tensors, as float32."""
    from safetensors.torch import load_file

    return {key: value.float() for key, value in load_file(str(weights_file(name, folder))).items()}


def load_sound_encoder(folder: Path = WEIGHTS) -> CAVMAEEncoder:
    from ..align.encoder import load

    return load(weights_file("sound_encoder", folder))


def load_picture_model(folder: Path = WEIGHTS) -> DiffusersPictureModel:
    """SoundWorld's Stable Diffusion through diffusers and transformers."""
    from ..picture.diffusers import DiffusersPictureModel
    from .models import SCHEDULER_CONFIG, PatchAutoencoder, build_unet
    from .text import load_text

    unet = build_unet()
    unet.load_state_dict(read_weights("unet", folder))
    tokenizer, text_encoder = load_text(folder)
    autoencoder = PatchAutoencoder()
    autoencoder.load_state_dict(read_weights("autoencoder", folder))
    return DiffusersPictureModel(unet, text_encoder, tokenizer, autoencoder, SCHEDULER_CONFIG)


def load_oracle(folder: Path = WEIGHTS) -> Oracle:
    from .oracle import Oracle

    oracle = Oracle()
    oracle.load_state_dict(read_weights("oracle", folder))
    return oracle.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def library(count: int = 600, seed: int = 77) -> Tensor:
    """SoundWorld's picture library: `count` rendered pictures, uint8 [N, 3, 128, 128], that no model was
    trained on."""
    from .diffusion import draw_all, random_scenes

    return draw_all(random_scenes(count, seed, calm=0.05), workers=1)


def references(f_a: Tensor, encoder, k: int = 4) -> tuple[Tensor, list[float]]:
    """The k library pictures nearest to a sound's embedding [dim]: pictures [k, 3, 128, 128] and cosines
    [k]."""
    from ..adapt.library import rank

    rows, scores = rank(f_a, library_features(encoder), k)
    return library()[rows].float() / 255, scores


_features: dict[int, tuple[object, Tensor]] = {}


def library_features(encoder) -> Tensor:
    """The library's embeddings [N, dim] by an encoder, computed once for each encoder object.

    Raises InputError for an encoder that cannot see pictures.
    """
    if not hasattr(encoder, "embed_images"):
        raise InputError(
            f"The sound encoder {encoder.name} cannot see SoundWorld's pictures: give a folder of your own "
            "and a CLIP model that sees it."
        )
    held = _features.get(id(encoder))
    if held is None or held[0] is not encoder:
        _features.clear()
        held = _features[id(encoder)] = (encoder, encoder.embed_images(library().float() / 255))
    return held[1]
