"""`aai align`: encoders that place sounds in a text encoder's space."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import align_train, bridge
from .arguments import add_force_argument, check_together
from .outputs import check_encoder_file
from .terminal import Commands, print_report

if TYPE_CHECKING:
    from ..encoders.clip_space import CLIPSpaceEncoder


def add(commands: Commands) -> None:
    align = commands.group("align", "teach encoders where sounds belong among a text encoder's words")
    align_train.add(align)
    bridge.add(align)
    _add_convert(align)


def _add_convert(align: Commands) -> None:
    sub = align.add(
        "convert",
        convert,
        "make a public file of CAV-MAE, Wav2CLIP, AudioCLIP or SGSIM an encoder of this pack",
        "aai align convert audio_model.21.pth -o cavmae.safetensors",
    )
    sub.add_argument("file", metavar="FILE", help="a .pth or .pt as it was published, or its safetensors")
    sub.add_argument(
        "--text",
        metavar="DIR",
        help="not for CAV-MAE: what reads words, CLIP ViT-B/32's folder (AudioCLIP: any of OpenAI's CLIPs)",
    )
    sub.add_argument("--captions", metavar="FILE", help="more words than our own: a text file, one a line")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the encoder's file")
    add_force_argument(sub)
    sub.add_argument("--half", action="store_true", help="in half precision")


def convert(options: argparse.Namespace) -> None:
    import torch

    from ..encoders import cavmae_checkpoint
    from ..encoders.loaders import rival_of, save
    from ..encoders.published import read_tensors

    check_together(options, "align convert")
    check_encoder_file(options.output, options.force)
    tensors, name = read_tensors(options.file), Path(options.file).name
    precision = torch.float16 if options.half else torch.float32
    if (encoder := rival_of(tensors, name)) is not None:
        report, said = _named(options, encoder)
    else:
        published = cavmae_checkpoint.of_tensors(tensors, name)
        if options.text:
            raise InputError(
                f"'{name}' is a CAV-MAE, which learns its words by aai align train --text: leave --text out "
                "here."
            )
        encoder = cavmae_checkpoint.encoder_of(published)
        report = {"layout": published.layout, "parts": published.parts}
        said = (
            f"{name} is {published}.\n{options.output}: both towers; not aligned yet, so it knows no words: "
            "aai align train tunes it."
        )
    save(encoder, options.output, precision, made_by="aai align convert", source=name)
    print_report(options, {"file": str(options.output), **report}, said)


def _named(options: argparse.Namespace, encoder: CLIPSpaceEncoder) -> tuple[dict, str]:
    """Gives an encoder of a CLIP's joint space words, where its CLIP is named; the report."""
    from ..align.labels import LABELS, read, unique
    from ..encoders.clip_space import name_words

    whose = f"{encoder.title}, licence {encoder.licence}"
    if options.text:
        more = read(options.captions) if options.captions else []
        name_words(encoder, encoder.text_tower(options.text), unique([*LABELS, *more]))
        words = f"{len(encoder.labels)} words"
    else:
        words = "no words: --text names the CLIP that reads them"
    encoder.name = options.output.stem
    report = {"family": encoder.family, "licence": encoder.licence, "labels": len(encoder.labels)}
    return report, f"{Path(options.file).name} is {whose}.\n{options.output}: {words}."
