"""Arguments that several commands take: the sound, the encoder, the CLIP, the device, the output."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .models import SOUNDWORLD


def is_given(options: argparse.Namespace, name: str) -> bool:
    """Whether an option without a default was given."""
    value = getattr(options, name)
    return value is not None and value is not False and value != ""


def first_given(options: argparse.Namespace, names: Sequence[str]) -> str | None:
    """The first of the options without a default that was given, as it is typed: "--null-text"."""
    return next((f"--{name.replace('_', '-')}" for name in names if is_given(options, name)), None)


def add_encoder_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--encoder", default=SOUNDWORLD, metavar="FILE", help="a sound encoder's file (%(default)s)"
    )


def add_sound_arguments(sub: argparse.ArgumentParser) -> None:
    add_encoder_argument(sub)
    sub.add_argument(
        "--start", type=float, default=0.0, metavar="S", help="where the sound begins, in seconds"
    )
    sub.add_argument("--length", type=float, metavar="S", help="how much of it, in seconds (all)")


def add_model_arguments(sub: argparse.ArgumentParser, what: str = "a diffusers model's folder") -> None:
    """The picture model, where it runs and what it computes in."""
    sub.add_argument("--model", default=SOUNDWORLD, metavar="DIR", help=f"{what} (%(default)s)")
    add_device_argument(sub)
    add_dtype_argument(sub)


def add_clip_argument(
    sub: argparse.ArgumentParser,
    what: str = "a CLIP model's folder that sees the pictures, for encoders that cannot",
) -> None:
    sub.add_argument("--clip", type=Path, metavar="DIR", help=what)


def add_device_argument(
    sub: argparse.ArgumentParser, what: str = "the picture model", default: str | None = None
) -> None:
    """`--device`; without a default, `device_of` finds the best."""
    shown = default or "the GPU, where there is one"
    sub.add_argument(
        "--device", default=default, metavar="NAME", help=f"where {what} runs, as torch calls it ({shown})"
    )


def add_dtype_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        help="what the picture model computes in (float16, flow transformers bfloat16; float32 on a CPU)",
    )


def add_force_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--force", action="store_true", help="replace a file that aai has not written")
