"""`aai generate`, `aai edit`, `aai invert`: pictures with sound tokens in them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .inputs import (
    SOUNDWORLD,
    about_device,
    about_dtype,
    about_force,
    about_training,
    check_output,
    check_picture_file,
    load_model,
    train,
)
from .terminal import Commands, positive, progress, tell

if TYPE_CHECKING:
    from ..inject.invert import Trajectory
    from ..picture.model import PictureModel
    from ..prompt import Prompt
    from ..token import SoundToken

STEPS, GUIDANCE = 30, 5.0
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
    about_drawing(sub)

    sub = commands.add(
        "edit",
        edit,
        "let a sound change a picture and leave the rest of it alone",
        'aai edit --sound rain.wav --source "a city" --edited "a city under *" -o city.png',
    )
    sub.add_argument("--source", metavar="PROMPT", help="the picture before; written as *_source.png")
    sub.add_argument(
        "--picture", type=Path, metavar="FILE", help="a picture of yours to edit; inverted first"
    )
    sub.add_argument(
        "--trajectory",
        type=Path,
        metavar="FILE",
        help="one that `aai invert` has inverted already; after --null-text with its --steps and --guidance",
    )
    about_inverting(sub)
    sub.add_argument(
        "--edited",
        required=True,
        action="append",
        metavar="PROMPT",
        help="the picture after, with * or <name> in it; may be given again",
    )
    sub.add_argument(
        "--style", action="store_true", help='windows for "in the style of *": let go of the source earlier'
    )
    sub.add_argument(
        "--cross-until", type=float, metavar="S", help="share of the steps that words keep their places (0.8)"
    )
    sub.add_argument(
        "--self-until", type=float, metavar="S", help="share of the steps that shapes are kept (0.4)"
    )
    sub.add_argument(
        "--self-downscale",
        type=positive,
        default=4,
        metavar="N",
        help="shapes are kept in layers N times coarser than the latent, or more (%(default)s)",
    )
    sub.add_argument(
        "--blend", default="", metavar="WORDS", help='only where these words look may it change: "*, fire"'
    )
    sub.add_argument(
        "--blend-changes",
        action="store_true",
        help="only where the edit changes the picture most may it change",
    )
    sub.add_argument(
        "--blend-start",
        type=float,
        default=0.2,
        metavar="S",
        help="from which share of the steps (%(default)s)",
    )
    sub.add_argument(
        "--blend-threshold",
        type=float,
        default=0.3,
        metavar="S",
        help="and where that is at least this share of its most; less lets more change (%(default)s)",
    )
    sub.add_argument(
        "--mask", type=Path, metavar="FILE", help="only where this picture is white may it change"
    )
    sub.add_argument(
        "--silence",
        choices=("full", "literal"),
        default="full",
        help="scales go from the source picture (0) to the edit (1) and beyond it, or eq. 8 alone "
        "(%(default)s)",
    )
    sub.add_argument(
        "--edited-pooled",
        action="store_true",
        help="SDXL: every edited picture takes its own pooled embedding, not the source's; changes more",
    )
    about_drawing(sub)

    sub = commands.add(
        "invert",
        invert,
        "find the noise that a picture of yours would come from, to edit it more than once",
        'aai invert house.png --prompt "a village" -o house.safetensors',
    )
    sub.add_argument("picture", type=Path, metavar="PICTURE", help="a picture file")
    sub.add_argument("--prompt", required=True, help="what it shows")
    sub.add_argument(
        "--guidance", type=float, default=GUIDANCE, help="the guidance that --null-text is for (%(default)s)"
    )
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file of its way"
    )
    about_force(sub)
    sub.add_argument(
        "--model", default=SOUNDWORLD, metavar="DIR", help="a diffusers model's folder (%(default)s)"
    )
    about_device(sub)
    about_dtype(sub)
    about_inverting(sub)


def generate(options: argparse.Namespace) -> None:
    from ..inject.edit import reweighted
    from ..inject.loudness import Reweight, read_scales
    from ..prompt import Prompt

    scales = [1.0] if options.scale in (None, LOUDNESS) else read_scales(options.scale)
    names = [f"_{scale:g}" for scale in scales] if len(scales) > 1 else [""]
    seeds = list(range(options.seed, options.seed + options.count))
    _check(options, seeds, names)
    model, tokens = _model_and_tokens(options)
    _settle(options)
    prompt = Prompt(options.prompt, tokens)
    if options.scale is not None and not tokens:
        raise InputError("There is no sound token to scale: give one with --token or --sound.")
    if tokens and not prompt.used():
        raise InputError(
            f"The prompt “{prompt.text}” names no sound token: write * or <name> where the sound belongs."
        )
    cond = model.encode_prompt(prompt)
    edit = None
    if options.scale == LOUDNESS:
        edit = Reweight((_loudness(options, prompt),))
    elif options.scale is not None:
        edit = reweighted(None, [cond.reads], scales)
    written = _draw(options, model, cond, seeds, names, edit)
    report = {"prompt": options.prompt, "tokens": [t.name for t in tokens], "pictures": written}
    tell(options, report, "\n".join(row["file"] for row in written))


def edit(options: argparse.Namespace) -> None:
    from ..inject.edit import STYLE_WINDOWS, Edit, blended, encode, sweep
    from ..inject.invert import load
    from ..inject.loudness import read_scales
    from ..prompt import Prompt

    scales = [1.0] if options.scale in (None, LOUDNESS) else read_scales(options.scale)
    count = max(len(options.edited), len(scales))
    names = ["_source", *([""] if count == 1 else (f"_{i + 1}" for i in range(count)))]
    seeds = list(range(options.seed, options.seed + options.count))
    _check(options, seeds, names)
    model, tokens = _model_and_tokens(options)
    source, way = options.source, None
    if options.trajectory:
        way, prompt = load(options.trajectory)
        source = source or prompt
    if not source:
        raise InputError("There is no source prompt: say what the picture before shows with --source.")
    if options.picture and options.trajectory:
        raise InputError("A picture and a trajectory are two sources: give --picture or --trajectory.")
    if (options.picture or options.trajectory) and options.count > 1:
        raise InputError("An inverted picture has one noise, so --count would repeat it: leave --count out.")
    if options.picture:
        _settle(options)
        way = _inverted(options, model, options.picture, source)
    _settle(options, way)
    edited, each = sweep([Prompt(text, tokens) for text in options.edited], scales)
    if options.scale == LOUDNESS:
        each = tuple(_loudness(options, prompt) for prompt in edited)
    windows = dict(STYLE_WINDOWS) if options.style else {}
    for name in ("cross", "self"):
        if getattr(options, f"{name}_until") is not None:
            windows[f"{name}_window"] = (0.0, getattr(options, f"{name}_until"))
    told = Edit(
        Prompt(source, tokens),
        edited,
        scales=each,
        trajectory=way,
        self_downscale=options.self_downscale,
        silence=options.silence,
        source_pooled=not options.edited_pooled,
        **windows,
    )
    told = blended(
        told,
        model.encode_prompt,
        options.blend,
        _mask(options.mask),
        options.blend_start,
        options.blend_threshold,
        options.blend_changes,
    )
    written = _draw(options, model, encode(model.encode_prompt, told), seeds, names, told)
    for row, place in zip(written, [*range(told.rows)] * len(seeds)):
        row["prompt"] = source if place == 0 else edited[place - 1].text
        row["scale"] = None if place == 0 else max(each[place - 1].values())
    report = {"source": source, "tokens": [t.name for t in tokens], "pictures": written}
    tell(options, report, "\n".join(row["file"] for row in written))


def invert(options: argparse.Namespace) -> None:
    from ..inject.invert import is_ours

    check_output(options.output, "an inverted picture", (".safetensors",), is_ours, options.force)
    model = load_model(options.model, options.device, options.dtype)
    way = _inverted(options, model, options.picture, options.prompt)
    way.save(options.output, options.prompt)
    report = {"file": str(options.output), "prompt": options.prompt, "steps": len(way.sigmas) - 1}
    tell(options, report, f"{options.output}: {options.picture} in {report['steps']} steps")


def _settle(options: argparse.Namespace, way: Trajectory | None = None) -> None:
    """Gives the steps and the guidance that were not said: those of a way's null embeddings, or the usual."""
    nulls = way is not None and way.nulls is not None
    if options.steps is None:
        options.steps = len(way.nulls) if nulls else STEPS
    if options.guidance is None:
        options.guidance = way.guidance if nulls and way.guidance is not None else GUIDANCE


def _inverted(options: argparse.Namespace, model: PictureModel, path: Path, prompt: str):
    from .. import image
    from ..inject.invert import invert, null_text, reduced
    from ..prompt import Prompt

    latents = model.encode_images(reduced(image.load(path)[None], model.native_size))
    # Null embeddings belong to the sampler's own steps.
    steps = options.invert_steps or (getattr(options, "steps", 50) if options.null_text else 50)
    told = model.encode_prompt(Prompt(prompt))
    with progress("inverting", steps, options.json) as tick:
        way = invert(model, latents, told, steps, lambda step, _: tick(step))
    if not options.null_text:
        return way
    with progress("null-text", steps, options.json) as tick:
        empty = model.encode_prompt(Prompt(""))
        return null_text(model, way, told, empty, options.guidance, callback=lambda step, _: tick(step))


def _mask(path: Path | None):
    """A picture's brightness [H, W] in [0, 1]; None for no file."""
    if path is None:
        return None
    from .. import image

    return image.load(path).mean(0)


def _model_and_tokens(options: argparse.Namespace) -> tuple[PictureModel, tuple[SoundToken, ...]]:
    from .. import token as tokens

    model = load_model(options.model, options.device, options.dtype)
    used = [tokens.load(path) for path in options.token]
    if options.sound:
        used.append(train(options, model).token)
    return model, tuple(used)


def _loudness(options: argparse.Namespace, prompt: Prompt) -> dict[str, float]:
    """Eq. 8's scale of every token that a prompt names, by its own sound's loudness."""
    from ..inject.loudness import scale_of

    used = prompt.used()
    without = next((token.name for token in used if token.loudness is None), None)
    if without is not None:
        raise InputError(
            f"The sound token <{without}> does not know its sound's loudness: give the scale as a number."
        )
    return {token.name: scale_of(token.loudness, options.reference) for token in used}


def _check(options: argparse.Namespace, seeds: list[int], names: list[str]) -> None:
    """Raises InputError where one of the pictures cannot be kept."""
    check_picture_file(options.output, force=True)
    for _, path in _places(options, seeds, names):
        check_picture_file(path, options.force)


def _places(options: argparse.Namespace, seeds: list[int], names: list[str]) -> list[tuple[int, Path]]:
    """(seed, file) of every picture."""
    stem = options.output.stem
    return [
        (seed, options.output.with_stem(f"{stem}{f'_{seed}' if len(seeds) > 1 else ''}{name}"))
        for seed in seeds
        for name in names
    ]


def _draw(
    options: argparse.Namespace, model: PictureModel, cond, seeds: list[int], names: list[str], edit
) -> list[dict]:
    """Samples and writes the pictures of every seed, one for each of `names`; returns a row for each."""
    from .. import image
    from ..prompt import Prompt

    with progress("drawing", options.steps, options.json) as tick:
        latents = model.sample(
            cond,
            model.encode_prompt(Prompt(options.negative)),
            seeds=seeds,
            steps=options.steps,
            guidance=options.guidance,
            width=options.width,
            height=options.height,
            callback=lambda step, total, x: tick(step),
            edit=edit,
        )
    written = []
    for (seed, path), picture in zip(_places(options, seeds, names), model.decode(latents)):
        image.save(picture, path)
        written.append({"file": str(path), "seed": seed})
    return written


def about_inverting(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--invert-steps",
        type=positive,
        metavar="N",
        help="steps of an inversion; more follow the picture more closely (50; with --null-text, the "
        "sampler's)",
    )
    sub.add_argument(
        "--null-text",
        action="store_true",
        help="optimise the unconditional embedding, so that guidance follows the picture too; takes long",
    )


def about_drawing(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--token", action="append", default=[], metavar="FILE", help="a sound token; may be given again"
    )
    sub.add_argument("--sound", metavar="FILE", help="a sound: its token is trained first")
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
    about_force(sub)
    sub.add_argument(
        "--count",
        type=positive,
        default=1,
        metavar="N",
        help="how many, with following seeds (%(default)s)",
    )
    sub.add_argument("--steps", type=positive, help=f"sampling steps ({STEPS})")
    sub.add_argument("--guidance", type=float, help=f"classifier-free guidance ({GUIDANCE})")
    sub.add_argument("--width", type=positive, help="pixels (the model's own)")
    sub.add_argument("--height", type=positive, help="pixels (the model's own)")
    about_training(sub)
