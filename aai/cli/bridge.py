"""`aai align bridge`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .arguments import add_force_argument, check_together
from .models import SOUNDWORLD, load_text_tower
from .outputs import check_encoder_file
from .terminal import Commands, positive, print_report, progress

MOST = 40


def add(align: Commands) -> None:
    sub = align.add(
        "bridge",
        bridge,
        "make a public CLAP hear in a Stable Diffusion's text space, learned on words in minutes",
        "aai align bridge --clap clap-htsat-unfused --text stable-diffusion-v1-5 -o clap_sd15.safetensors",
    )
    sub.add_argument(
        "--clap",
        required=True,
        metavar="DIR",
        help="the folder of a CLAP, as huggingface.co/laion/clap-htsat-unfused gives it",
    )
    sub.add_argument(
        "--text",
        required=True,
        metavar="DIR",
        help=f"a Stable Diffusion folder in diffusers' layout, a CLIP's, or {SOUNDWORLD}",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the encoder's file")
    add_force_argument(sub)
    sub.add_argument(
        "--sounds",
        type=Path,
        metavar="DIR",
        help="some sounds of many kinds, without labels: they tell where CLAP's sounds lie",
    )
    sub.add_argument("--most", type=positive, metavar="N", help=f"of these, how many are heard ({MOST})")
    sub.add_argument("--captions", metavar="FILE", help="more labels than our own: a text file, one a line")
    sub.add_argument(
        "--kind",
        choices=("ridge", "mlp"),
        default="ridge",
        help="closed form; mlp is no longer fitted, and taken for it (%(default)s)",
    )
    sub.add_argument("--seed", type=int, default=0, help="of no use any more: a ridge needs none")


def bridge(options: argparse.Namespace) -> None:
    from ..align.bridge import bridge_clap, load_sounds
    from ..align.labels import LABELS, read
    from ..encoders.clap import load_folder
    from ..encoders.loaders import save

    check_together(options, "align bridge")
    check_encoder_file(options.output, options.force)
    if options.kind == "mlp":
        print("The bridge's network (--kind mlp) is no longer fitted: this is the ridge.", file=sys.stderr)
    labels = [*LABELS, *(read(options.captions) if options.captions else [])]
    sounds = None if options.sounds is None else load_sounds(options.sounds, options.most or MOST)
    clap, clap_text = load_folder(options.clap)
    with progress("words", 100, options.json) as tick:
        encoder, report = bridge_clap(
            clap,
            clap_text,
            load_text_tower(options.text),
            labels,
            sounds,
            lambda done, total: tick(round(100 * done / total)),
            {"made_by": "aai align bridge"},
        )
    encoder.name = options.output.stem
    save(encoder, options.output)
    rows = {
        "file": str(options.output),
        "dim": encoder.dim,
        "labels": report.labels,
        "captions": report.captions,
        "sounds": report.sounds,
        "gap": report.gap,
        "lambda": report.lam,
        "cosine": round(report.cosine, 4),
        "named": round(report.named.value, 4),
        "licence": encoder.notes["licence"],
    }
    shown = f"{options.output}: hears in {encoder.dim} numbers; {report}.\nCLAP's licence: {rows['licence']}"
    print_report(options, rows, shown)
