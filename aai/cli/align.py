"""`aai align`: encoders that place sounds in a text encoder's space."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import align_train, bridge
from .arguments import add_force_argument
from .outputs import check_encoder_file
from .terminal import Commands, print_report


def add(commands: Commands) -> None:
    align = commands.group("align", "teach encoders where sounds belong among a text encoder's words")
    align_train.add(align)
    bridge.add(align)
    _add_convert(align)


def _add_convert(align: Commands) -> None:
    sub = align.add(
        "convert",
        convert,
        "make a public CAV-MAE file an encoder of this pack, to be aligned",
        "aai align convert audio_model.21.pth -o cavmae.safetensors",
    )
    sub.add_argument("file", metavar="FILE", help="a .pth as upstream publishes it, or its safetensors")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the encoder's file")
    add_force_argument(sub)
    sub.add_argument("--half", action="store_true", help="in half precision")


def convert(options: argparse.Namespace) -> None:
    import torch

    from ..encoders import cavmae_checkpoint
    from ..encoders.loaders import save

    check_encoder_file(options.output, options.force)
    published = cavmae_checkpoint.read(options.file)
    encoder = cavmae_checkpoint.encoder_of(published)
    precision = torch.float16 if options.half else torch.float32
    save(encoder, options.output, precision, made_by="aai align convert", source=published.name)
    report = {"file": str(options.output), "layout": published.layout, "parts": published.parts}
    print_report(
        options,
        report,
        f"{published.name} is {published}.\n{options.output}: both towers; not aligned yet, so it knows no "
        "words: aai align train tunes it.",
    )
