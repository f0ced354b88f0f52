"""`aai generate`: pictures with sound tokens in them, and what drawing shares with `aai edit`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import add_force_argument, check_together
from .models import check_editable, load_model
from .outputs import check_picture_file
from .terminal import Commands, finite, positive, print_report, progress, side
from .training import add_training_arguments, make_word, token_name

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

    check_together(options, "generate")
    scales = [1.0] if options.scale in (None, LOUDNESS) else read_scales(options.scale)
    names = [f"_{scale:g}" for scale in scales] if len(scales) > 1 else [""]
    seeds = list(range(options.seed, options.seed + options.count))
    check_pictures(options, seeds, names)
    tokens = expected_tokens(options)
    check_names((options.prompt, options.negative), tokens)
    prompt = Prompt(options.prompt, tokens)
    if options.scale is not None and not tokens:
        raise InputError("There is no sound token to scale: give one with --token or --sound.")
    if tokens and not prompt.used():
        raise InputError(
            f"The prompt '{prompt.text}' names no sound token: write * or <name> where the sound belongs."
        )
    if options.scale == LOUDNESS:
        loudness_scales(options, prompt)
    warn_of_weights(options.prompt, options.negative)
    model = load_model(options.model, options.device, options.dtype)
    if options.scale is not None:
        check_editable(model, scale_alone=True)
    fill_defaults(options, model)
    tokens = with_sound(
        options, model, tokens, lambda given: encode_all(model, (options.prompt, options.negative), given)
    )
    prompt = Prompt(options.prompt, tokens)
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


def expected_tokens(options: argparse.Namespace) -> tuple[SoundToken, ...]:
    """The tokens that were given and, where there is a sound, a stand-in for its own, so that what is wrong
    with the prompts is told before that one is trained."""
    from .. import token as tokens

    given = tuple(map(tokens.load, options.token))
    if options.sound:
        return (*given, _stand_in(options, {"clip_l": 1}))
    return given


def with_sound(
    options: argparse.Namespace,
    model: PictureModel,
    expected: tuple[SoundToken, ...],
    check: Callable[[tuple[SoundToken, ...]], object],
) -> tuple[SoundToken, ...]:
    """`expected_tokens` with the sound's own, which is made now. Before that, `check` is called with a
    stand-in that this model reads: what it raises costs no training."""
    if not options.sound:
        return expected
    check((*expected[:-1], _stand_in(options, model.widths)))
    made = make_word(options, model)
    if options.instant and made.note:
        print(made.note, file=sys.stderr)
    return (*expected[:-1], made.token)


def _stand_in(options: argparse.Namespace, widths: Mapping[str, int]) -> SoundToken:
    """A token of the name and the size of the sound's, of a loudness that counts as known."""
    import torch

    from ..inject.loudness import REFERENCE
    from ..token import SoundToken

    vectors = {key: torch.zeros(options.vectors or 1, width) for key, width in widths.items()}
    return SoundToken(token_name(options), vectors, loudness=REFERENCE)


def check_names(texts: Iterable[str], tokens: tuple[SoundToken, ...]) -> None:
    """Raises InputError for two tokens of one name, and for a prompt that names a token that is not there."""
    from ..prompt import Prompt

    for text in texts:
        Prompt(text, tokens).used()


def encode_all(model: PictureModel, texts: Iterable[str], tokens: tuple[SoundToken, ...]) -> None:
    """Raises InputError for a prompt that the model cannot read with these tokens."""
    from ..prompt import Prompt

    for text in texts:
        model.encode_prompt(Prompt(text, tokens))


def loudness_scales(options: argparse.Namespace, prompt: Prompt) -> dict[str, float]:
    """Eq. 8's scale of every token that a prompt names, by its own sound's loudness."""
    from ..inject.loudness import REFERENCE, scale_of

    used = prompt.used()
    without = next((token.name for token in used if token.loudness is None), None)
    if without is not None:
        raise InputError(
            f"The sound token <{without}> does not know its sound's loudness: give the scale as a number."
        )
    reference = REFERENCE if options.reference is None else options.reference
    return {token.name: scale_of(token.loudness, reference) for token in used}


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
    """Samples and writes the pictures of every seed in turn, one for each of `names`; returns a row for each.
    The negative prompt may name the tokens."""
    from .. import image
    from ..prompt import Prompt

    uncond = model.encode_prompt(Prompt(options.negative, tokens))
    written, files = [], iter(picture_files(options, seeds, names))
    with progress("drawing", len(seeds) * options.steps, options.json) as tick:
        # One seed at a time: all at once, a real model's pictures fill the memory.
        for number, own_seed in enumerate(seeds):
            done = number * options.steps
            latents = model.sample(
                cond,
                uncond,
                seeds=[own_seed],
                steps=options.steps,
                guidance=options.guidance,
                width=options.width,
                height=options.height,
                callback=lambda step, total, x, done=done: tick(done + step),
                edit=edit,
            )
            for picture, (seed, path) in zip(model.decode(latents), files):
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
        type=finite,
        metavar="LUFS",
        help="the loudness that counts as scale 1 with --scale loudness (-23)",
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
    drawn = sub.add_argument_group("how it is drawn")
    drawn.add_argument(
        "--count",
        type=positive,
        default=1,
        metavar="N",
        help="how many, with following seeds (%(default)s)",
    )
    drawn.add_argument("--steps", type=positive, help=f"sampling steps ({STEPS})")
    drawn.add_argument("--guidance", type=finite, help="classifier-free guidance (the model's own)")
    drawn.add_argument("--width", type=side, help="pixels (the model's own)")
    drawn.add_argument("--height", type=side, help="pixels (the model's own)")
    add_training_arguments(sub, listed=False)
