"""Arguments that several commands take: the sound, the encoder, the CLIP, the device, the output; and which
of a command's options do nothing without others, or beside them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .models import SOUNDWORLD
from .terminal import either


@dataclass(frozen=True)
class Rule:
    """Options that do nothing, for what `because` says, unless one of `needs` is given too, or where one of
    `beside` is. All as they are typed; one that is needed may have a value: "--scale loudness"."""

    options: tuple[str, ...]
    because: str
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


TRAINED = (
    *(
        "--refs",
        "--clip",
        "-k",
        "--train-steps",
        "--checkpointing",
        "--resume",
        "--rate",
        "--batch",
        "--chunk",
    ),
    *("--sound-scale", "--rho", "--norm", "--kappa", "--vectors", "--template", "--timesteps", "--average"),
    *("--validate", "--patience"),
)
"""The options of a token's training."""
HEARD = ("--encoder", "--start", "--length", "--instant", "--adapter", "--name", "--licence")
"""What else is said of a sound and of the word that is made of it."""
MADE = (
    Rule(TRAINED, "--instant trains nothing", beside=("--instant",)),
    Rule(("--adapter",), "An adapter makes a word without training", needs=("--instant",)),
    Rule(("--patience",), "Training stops early by the loss that --validate measures", needs=("--validate",)),
    Rule(("--kappa",), "The norm 'direction' alone has a prior", needs=("--norm direction",)),
    Rule(("--clip",), "A CLIP sees pictures of yours for the sound's encoder", needs=("--refs",)),
)
DRAWN = (
    Rule((*HEARD, *TRAINED), "No word is made, as there is no sound", needs=("--sound",)),
    *MADE,
    Rule(("--reference",), "A number for --scale is the scale itself", needs=("--scale loudness",)),
)
BLENDED = Rule(
    ("--blend-start", "--blend-threshold"),
    "Nothing is blended by words or changes",
    needs=("--blend", "--blend-changes"),
)
TOGETHER = {
    "token": MADE,
    "generate": DRAWN,
    "edit": (
        *DRAWN,
        BLENDED,
        Rule(("--invert-steps", "--null-text"), "No picture is inverted now", needs=("--picture",)),
        Rule(
            ("--width", "--height"), "A picture of yours has its size", beside=("--picture", "--trajectory")
        ),
    ),
    "invert": (Rule(("--guidance",), "The noise is found without guidance", needs=("--null-text",)),),
    "film": (
        BLENDED,
        Rule(("--adapter",), "The token's own adapter makes every word", beside=("--token",)),
    ),
    "align bridge": (Rule(("--most",), "No sounds of a folder are counted", needs=("--sounds",)),),
    "align convert": (Rule(("--captions",), "No CLIP reads any words", needs=("--text",)),),
}
"""The rules of every command that has some."""


def check_together(options: argparse.Namespace, command: str) -> None:
    """Raises InputError for an option that does nothing with the others that were given."""
    for rule in TOGETHER[command]:
        unused = next((option for option in rule.options if _is_typed(options, option)), None)
        if unused is None:
            continue
        reason = f"{rule.because}, so {unused} does nothing"
        if rule.needs and not any(_is_typed(options, need) for need in rule.needs):
            raise InputError(f"{reason}: give {either(rule.needs)} too, or leave it out.")
        other = next((option for option in rule.beside if _is_typed(options, option)), None)
        if other is not None:
            raise InputError(f"{reason} beside {other}: leave one of them out.")


def _is_typed(options: argparse.Namespace, typed: str) -> bool:
    option, _, value = typed.partition(" ")
    name = option.lstrip("-").replace("-", "_")
    return getattr(options, name) == value if value else is_given(options, name)


def is_given(options: argparse.Namespace, name: str) -> bool:
    """Whether an option without a default was given."""
    value = getattr(options, name)
    return value is not None and value is not False and value != ""


def first_given(options: argparse.Namespace, names: Sequence[str]) -> str | None:
    """The first of the options without a default that was given, as it is typed: "--null-text"."""
    return next((f"--{name.replace('_', '-')}" for name in names if is_given(options, name)), None)


def add_encoder_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--encoder", metavar="FILE", help=f"a sound encoder's file ({SOUNDWORLD})")


def add_sound_arguments(sub: argparse.ArgumentParser) -> None:
    add_encoder_argument(sub)
    sub.add_argument("--start", type=float, metavar="S", help="where the sound begins, in seconds (0)")
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
