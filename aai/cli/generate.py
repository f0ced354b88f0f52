"""`aai generate`: pictures with sound tokens in them, and what drawing shares with `aai edit`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import add_force_argument
from .models import check_editable, load_model
from .outputs import check_picture_file
from .terminal import Commands, positive, print_report, progress, side
from .training import add_training_arguments, make_word

if TYPE_CHECKING:
    from ..inject.invert import Trajectory
    from ..picture.model import PictureModel
    from ..prompt import Prompt
    from ..token import SoundToken

STEPS, GUIDANCE = 30, 5.0
WEIGHT = re.compile(r"(?<!\\)\([^()]*:\s*[+-]?[0-9.]+\s*\)")
LOUDNESS = "loudness"
"""The --scale that takes each sound's own."""


def add(commands: Commands) -> None:
    sub = commands.add(
        "generate",
        generate,
        "draw pictures with sound tokens",
        'aai generate --token rain.safetensors --prompt "a city under *" -o city.png',
    )
    sub.add_argument(
        "--prompt", default="a photo of *", help="* is the first token, <name> another (%(default)s)"
    )
    add_drawing_arguments(sub)


def generate(options: argparse.Namespace) -> None:
    from ..inject.edit import reweighted
    from ..inject.loudness import Reweight, read_scales
    from ..prompt import Prompt

    scales = [1.0] if options.scale in (None, LOUDNESS) else read_scales(options.scale)
    names = [f"_{scale:g}" for scale in scales] if len(scales) > 1 else [""]
    seeds = list(range(options.seed, options.seed + options.count))
    check_pictures(options, seeds, names)
    model, tokens = model_and_tokens(options)
    fill_defaults(options, model)
    prompt = Prompt(options.prompt, tokens)
    warn_of_weights(options.prompt, options.negative)
    if options.scale is not None and not tokens:
        raise InputError("There is no sound token to scale: give one with --token or --sound.")
    if tokens and not prompt.used():
        raise InputError(
            f"The prompt '{prompt.text}' names no sound token: write * or <name> where the sound belongs."
        )
    cond = model.encode_prompt(prompt)
    edit = None
    if options.scale == LOUDNESS:
        edit = Reweight((loudness_scales(options, prompt),))
    elif options.scale is not None:
        edit = reweighted(None, [token.name for token in prompt.used()], scales)
    written = draw(options, model, cond, seeds, names, edit, tokens)
    report = {"prompt": options.prompt, "tokens": [t.name for t in tokens], "pictures": written}
    print_report(options, report, "\n".join(row["file"] for row in written))


def warn_of_weights(*prompts: str) -> None:
    """Warns that weights as ComfyUI reads them in a prompt, as in (city:1.5), are characters here."""
    weight = next((match[0] for text in prompts if (match := WEIGHT.search(text))), None)
    if weight is not None:
        print(
            f"The weight in '{weight}' is read as characters: unlike ComfyUI, aai weighs no words, only "
            "sounds, with --scale.",
            file=sys.stderr,
        )


def fill_defaults(
    options: argparse.Namespace, model: PictureModel, trajectory: Trajectory | None = None
) -> None:
    """Sets the steps and the guidance that were not given: those of a trajectory's null embeddings, or the
    usual steps and the model's guidance."""
    nulls = trajectory is not None and trajectory.nulls is not None
    if options.steps is None:
        options.steps = len(trajectory.nulls) if nulls else STEPS
    if options.guidance is None:
        known = nulls and trajectory.guidance is not None
        options.guidance = trajectory.guidance if known else model.guidance


def model_and_tokens(
    options: argparse.Namespace, editing: bool = False
) -> tuple[PictureModel, tuple[SoundToken, ...]]:
    """The model, and the tokens that were given or are trained now. Raises InputError for a model that takes
    no edit where one is asked of it."""
    from .. import token as tokens

    model = load_model(options.model, options.device, options.dtype)
    if options.scale is not None or editing:
        check_editable(model, scale_alone=not editing)
    used = [tokens.load(path) for path in options.token]
    if options.sound:
        made = make_word(options, model)
        if options.instant and made.note:
            print(made.note, file=sys.stderr)
        used.append(made.token)
    elif options.instant:
        raise InputError("--instant makes a word of a sound: name one with --sound.")
    return model, tuple(used)


def loudness_scales(options: argparse.Namespace, prompt: Prompt) -> dict[str, float]:
    """Eq. 8's scale of every token that a prompt names, by its own sound's loudness."""
    from ..inject.loudness import scale_of

    used = prompt.used()
    without = next((token.name for token in used if token.loudness is None), None)
    if without is not None:
        raise InputError(
            f"The sound token <{without}> does not know its sound's loudness: give the scale as a number."
        )
    return {token.name: scale_of(token.loudness, options.reference) for token in used}


def check_pictures(options: argparse.Namespace, seeds: list[int], names: list[str]) -> None:
    """Raises InputError where one of the pictures cannot be kept."""
    check_picture_file(options.output, force=True)
    for _, path in picture_files(options, seeds, names):
        check_picture_file(path, options.force)


def picture_files(options: argparse.Namespace, seeds: list[int], names: list[str]) -> list[tuple[int, Path]]:
    """(seed, file) of every picture."""
    stem = options.output.stem
    return [
        (seed, options.output.with_stem(f"{stem}{f'_{seed}' if len(seeds) > 1 else ''}{name}"))
        for seed in seeds
        for name in names
    ]


def draw(
    options: argparse.Namespace,
    model: PictureModel,
    cond,
    seeds: list[int],
    names: list[str],
    edit,
    tokens: tuple[SoundToken, ...],
) -> list[dict]:
    """Samples and writes the pictures of every seed, one for each of `names`; returns a row for each. The
    negative prompt may name the tokens."""
    from .. import image
    from ..prompt import Prompt

    with progress("drawing", options.steps, options.json) as tick:
        latents = model.sample(
            cond,
            model.encode_prompt(Prompt(options.negative, tokens)),
            seeds=seeds,
            steps=options.steps,
            guidance=options.guidance,
            width=options.width,
            height=options.height,
            callback=lambda step, total, x: tick(step),
            edit=edit,
        )
    written = []
    for (seed, path), picture in zip(picture_files(options, seeds, names), model.decode(latents)):
        image.save(picture, path)
        written.append({"file": str(path), "seed": seed})
    return written


def add_drawing_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--token", action="append", default=[], metavar="FILE", help="a sound token; may be given again"
    )
    sub.add_argument(
        "--sound", metavar="FILE", help="a sound: its token is trained first, or made at once (--instant)"
    )
    sub.add_argument(
        "--scale",
        metavar="S",
        help="how much of the sound, 0 to 2; several with commas draw as many pictures; 'loudness' takes "
        "each sound's own",
    )
    sub.add_argument(
        "--reference",
        type=float,
        default=-23.0,
        metavar="LUFS",
        help="the loudness that counts as scale 1 (%(default)s)",
    )
    sub.add_argument("--negative", default="", metavar="PROMPT", help="what the picture should not be")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the picture's file: .png, .jpg or .webp",
    )
    add_force_argument(sub)
    sub.add_argument(
        "--count",
        type=positive,
        default=1,
        metavar="N",
        help="how many, with following seeds (%(default)s)",
    )
    sub.add_argument("--steps", type=positive, help=f"sampling steps ({STEPS})")
    sub.add_argument("--guidance", type=float, help="classifier-free guidance (the model's own)")
    sub.add_argument("--width", type=side, help="pixels (the model's own)")
    sub.add_argument("--height", type=side, help="pixels (the model's own)")
    add_training_arguments(sub)
