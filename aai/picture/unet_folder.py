"""Whether a diffusers folder is a Stable Diffusion that can be loaded, told by what it says of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from .schedule import check_betas, is_v_prediction

NEEDED = "unet", "vae", "text_encoder", "tokenizer", "scheduler"
SECOND = "text_encoder_2", "tokenizer_2"
"""The parts that Stable Diffusion XL has beside these."""
CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}
"""The classes that a part may be of, of those parts where another one is read otherwise."""
UNTOLD = "class_embed_type", "num_class_embeds", "encoder_hid_dim_type"
"""What a U-Net's configuration calls inputs beside a prompt's, which nobody here would give it."""


def check_unet_folder(index: Mapping[str, object], path_or_id: str | Path) -> None:
    """Raises InputError for a model_index.json that is not of Stable Diffusion 1, 2 or XL, or whose U-Net or
    noise schedule is another kind's. Reads configurations alone, no weights."""
    import diffusers

    present = {name: part[1] for name, part in index.items() if isinstance(part, list) and all(part)}
    second = bool(present.keys() & {*SECOND})
    needed = (*NEEDED, *SECOND) if second else NEEDED
    missing = next((name for name in needed if name not in present), None)
    if missing is not None:
        raise _unknown(index, path_or_id, f"which has no {missing}")
    for name, classes in CLASSES.items():
        if present.get(name, classes[0]) not in classes:
            raise _unknown(index, path_or_id, f"whose {name} is a {present[name]}")
    unet = diffusers.UNet2DConditionModel.load_config(str(path_or_id), subfolder="unet")
    told = {name: unet.get(name) for name in UNTOLD}
    if not (second and unet.get("addition_embed_type") == "text_time"):
        told["addition_embed_type"] = unet.get("addition_embed_type")
    other = next((name for name, value in told.items() if value is not None), None)
    if other is not None:
        raise _unknown(index, path_or_id, f"whose unet reads more than a prompt ({other}: {told[other]})")
    scheduler = getattr(diffusers, str(present["scheduler"]))
    config = scheduler.from_pretrained(str(path_or_id), subfolder="scheduler").config
    check_betas(config)
    is_v_prediction(config)


def _unknown(index: Mapping[str, object], path_or_id: str | Path, why: str) -> InputError:
    return InputError(
        f"'{path_or_id}' is a {index.get('_class_name')}, {why}: load Stable Diffusion 1, 2 or XL, Flux.1 or "
        "Z-Image, or use it in ComfyUI, whose models all take sounds as words."
    )
