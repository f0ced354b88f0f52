"""`aai edit --picture` with a flow model: FlowEdit, which looks for no noise first."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import first_given
from .generate import fill_defaults, picture_files
from .terminal import finite, print_report, progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..picture.flow import FlowPictureModel
    from ..token import SoundToken

PHOTOGRAPH = ("strength", "source_guidance")
"""The options of a picture that a flow model edits."""
DRAWN = (
    *("style", "cross_until", "self_until", "self_downscale", "silence", "edited_pooled"),
    *("blend", "blend_changes", "blend_start", "blend_threshold", "invert_steps"),
)
"""The options of an edit whose source is drawn, or inverted."""


def add_flow_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="flow models: the share of the steps that edit --picture; more changes more (0.86)",
    )
    sub.add_argument(
        "--source-guidance",
        type=finite,
        metavar="G",
        help="flow models: the guidance of --source for --picture, lower than --guidance (1)",
    )


def edit_photograph(
    options: argparse.Namespace,
    model: FlowPictureModel,
    picture: Tensor,
    mask: Tensor | None,
    tokens: tuple[SoundToken, ...],
    names: list[str],
) -> None:
    """Writes the picture [3, H, W] as the autoencoder has it, and one for every edited prompt; `mask` is
    `mask_of`'s."""
    import torch
    from torch.nn import functional as F

    from .. import image
    from ..inject.flow_edit import edit_picture
    from ..inject.invert import reduced
    from ..prompt import Prompt

    latents = model.encode_images(reduced(picture[None], model.native_size))
    if mask is not None:
        mask = F.interpolate(mask[None, None], latents.shape[-2:], mode="area")[0, 0]
    encode = model.encode_prompt
    with progress("editing", options.steps, options.json) as tick:
        made = edit_picture(
            model,
            latents,
            encode(Prompt(options.source, tokens)),
            [encode(Prompt(text, tokens)) for text in options.edited],
            encode(Prompt(options.negative, tokens)),
            steps=options.steps,
            guidance=options.guidance,
            source_guidance=1.0 if options.source_guidance is None else options.source_guidance,
            strength=strength_of(options),
            seed=options.seed,
            mask=mask,
            callback=lambda step, _: tick(step),
        )
    pictures, rows = model.decode(torch.cat([latents.to(made), made])), []
    prompts = [options.source, *options.edited]
    for (_, path), picture, prompt in zip(picture_files(options, [options.seed], names), pictures, prompts):
        image.save(picture, path)
        rows.append({"file": str(path), "seed": options.seed, "prompt": prompt, "scale": None})
    report = {"source": options.source, "tokens": [t.name for t in tokens], "pictures": rows}
    print_report(options, report, "\n".join(row["file"] for row in rows))


def strength_of(options: argparse.Namespace) -> float:
    from ..inject.flow_edit import STRENGTH

    return STRENGTH if options.strength is None else options.strength


def check_photograph(options: argparse.Namespace, model: FlowPictureModel) -> None:
    """Fills in what was not given. Raises InputError for options that say nothing of a picture that a flow
    model edits, or too little strength."""
    from ..inject.flow_edit import editing

    if options.scale is not None:
        raise InputError(
            "A picture that a flow model edits has no scale: leave --scale out, and take more or less "
            "--guidance."
        )
    if options.null_text:
        raise InputError("A flow model edits a picture without inverting it: leave --null-text out.")
    unused = first_given(options, DRAWN)
    if unused:
        raise InputError(
            f"A picture that a flow model edits is not drawn anew, so {unused} does nothing: leave it out, "
            "and take --strength, --guidance or --mask."
        )
    if options.count > 1:
        raise InputError("A picture is edited once for each edited prompt: leave --count out.")
    fill_defaults(options, model)
    editing(model.flow.simple(options.steps), strength_of(options))


def mask_of(path: Path | None) -> Tensor | None:
    """A picture's brightness [H, W] in [0, 1]; None for no file."""
    if path is None:
        return None
    from .. import image

    return image.load(path).mean(0)
