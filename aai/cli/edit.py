"""`aai edit` and `aai invert`: a sound changes a picture, drawn or the user's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import (
    add_force_argument,
    add_model_arguments,
    check_together,
    first_given,
    is_given,
)
from .generate import (
    GUIDANCE,
    LOUDNESS,
    add_drawing_arguments,
    check_names,
    check_pictures,
    draw,
    encode_all,
    expected_tokens,
    fill_defaults,
    loudness_scales,
    warn_of_weights,
    with_sound,
)
from .models import check_editable, load_model
from .outputs import check_output
from .photograph import PHOTOGRAPH, add_flow_arguments, check_photograph, edit_photograph, mask_of
from .terminal import Commands, finite, positive, print_report, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from ..inject.edit import Edit
    from ..inject.invert import Trajectory
    from ..picture.model import Conditioning, PictureModel
    from ..prompt import Prompt
    from ..token import SoundToken


def add(commands: Commands) -> None:
    sub = commands.add(
        "edit",
        edit,
        "let a sound change a picture and leave the rest of it alone",
        'aai edit --sound rain.wav --source "a city" --edited "a city under *" -o city.png',
    )
    sub.add_argument("--source", metavar="PROMPT", help="the picture before; written as *_source.png")
    sub.add_argument(
        "--edited",
        required=True,
        action="append",
        metavar="PROMPT",
        help="the picture after, with * or <name> in it; may be given again",
    )
    own = sub.add_argument_group("a picture of your own as the source")
    own.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="a picture of yours to edit; inverted first, but with flow models",
    )
    own.add_argument(
        "--trajectory",
        type=Path,
        metavar="FILE",
        help="one that `aai invert` has inverted already; after --null-text with its --steps and --guidance",
    )
    add_inversion_arguments(own)
    add_flow_arguments(own)
    add_injection_arguments(sub.add_argument_group("what the edit keeps of the source"))
    add_drawing_arguments(sub)

    sub = commands.add(
        "invert",
        invert,
        "find the noise that a picture of yours would come from, to edit it more than once",
        'aai invert house.png --prompt "a village" -o house.safetensors',
    )
    sub.add_argument("picture", type=Path, metavar="PICTURE", help="a picture file")
    sub.add_argument("--prompt", required=True, help="what it shows")
    sub.add_argument("--guidance", type=finite, help=f"the guidance that --null-text is for ({GUIDANCE})")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the trajectory's .safetensors file",
    )
    add_force_argument(sub)
    add_model_arguments(sub)
    add_inversion_arguments(sub)


def edit(options: argparse.Namespace) -> None:
    from .. import image
    from ..inject.edit import encode, stack_of
    from ..inject.loudness import read_scales

    check_together(options, "edit")
    scales = [1.0] if options.scale in (None, LOUDNESS) else read_scales(options.scale)
    count = max(len(options.edited), len(scales))
    names = ["_source", *([""] if count == 1 else (f"_{i + 1}" for i in range(count)))]
    seeds = list(range(options.seed, options.seed + options.count))
    check_pictures(options, seeds, names)
    tokens = expected_tokens(options)
    source, trajectory = _source(options)
    prompts = (source, *options.edited, options.negative)
    check_names(prompts, tokens)
    _edit(options, source, tokens, scales)
    picture = None if options.picture is None else image.load(options.picture)
    mask = mask_of(options.mask)
    warn_of_weights(*prompts)
    model = load_model(options.model, options.device, options.dtype)
    check_editable(model)
    if picture is not None and model.joint:
        check_photograph(options, model)
        tokens = with_sound(options, model, tokens, lambda given: encode_all(model, prompts, given))
        edit_photograph(options, model, picture, mask, tokens, names)
        return
    unused = first_given(options, PHOTOGRAPH)
    if unused:
        raise InputError(f"{unused} is for a picture (--picture) that a flow model edits: leave it out.")
    if picture is not None and options.count > 1:
        raise InputError("An inverted picture has one noise, so --count would repeat it: leave --count out.")
    if trajectory is not None:
        trajectory.check_model(model.fingerprint)

    def planned(tokens: tuple[SoundToken, ...]) -> tuple[Edit, Conditioning]:
        made = _edit(options, source, tokens, scales, **injection_settings(options, model))
        made = with_blend(options, made, model.encode_prompt, mask)
        return made, encode(model.encode_prompt, made, stack_of(model))

    def check(tokens: tuple[SoundToken, ...]) -> None:
        planned(tokens)
        encode_all(model, [options.negative], tokens)

    tokens = with_sound(options, model, tokens, check)
    plan, cond = planned(tokens)
    if picture is not None:
        fill_defaults(options, model)
        trajectory = _inverted(options, model, picture, source)
    fill_defaults(options, model, trajectory)
    plan = replace(plan, trajectory=trajectory)
    written = draw(options, model, cond, seeds, names, plan, tokens)
    for row, number in zip(written, [*range(plan.rows)] * len(seeds)):
        row["prompt"] = source if number == 0 else plan.edited[number - 1].text
        row["scale"] = None if number == 0 else max(plan.scales[number - 1].values())
    report = {"source": source, "tokens": [t.name for t in tokens], "pictures": written}
    print_report(options, report, "\n".join(row["file"] for row in written))


def _source(options: argparse.Namespace) -> tuple[str, Trajectory | None]:
    """The prompt of the picture before, and its trajectory where that is a file. Raises InputError where
    there is no prompt, or more than one picture."""
    from ..inject.invert import load

    if options.picture and options.trajectory:
        raise InputError("A picture and a trajectory are two sources: give --picture or --trajectory.")
    source, trajectory = options.source, None
    if options.trajectory:
        try:
            trajectory, prompt = load(options.trajectory)
        except InputError as error:
            raise InputError(f"{str(error).rstrip('.')}: make one with `aai invert`.") from error
        source = source or prompt
    if not source:
        before = "the picture shows" if options.picture else "the picture before shows"
        raise InputError(f"There is no source prompt: say what {before} with --source.")
    if options.trajectory and options.count > 1:
        raise InputError("An inverted picture has one noise, so --count would repeat it: leave --count out.")
    return source, trajectory


def _edit(
    options: argparse.Namespace,
    source: str,
    tokens: tuple[SoundToken, ...],
    scales: Sequence[float],
    **settings,
) -> Edit:
    """The edit of the prompts and scales that were asked for."""
    from ..inject.edit import Edit, sweep
    from ..prompt import Prompt

    edited, each = sweep([Prompt(text, tokens) for text in options.edited], scales)
    if options.scale == LOUDNESS:
        each = tuple(loudness_scales(options, prompt) for prompt in edited)
    return Edit(Prompt(source, tokens), edited, scales=each, **settings)


def invert(options: argparse.Namespace) -> None:
    from .. import image
    from ..inject.invert import is_ours

    check_together(options, "invert")
    check_output(options.output, "an inverted picture", (".safetensors",), is_ours, options.force)
    picture = image.load(options.picture)
    model = load_model(options.model, options.device, options.dtype)
    if model.joint:
        raise InputError(
            f"{model.family} edits a picture without inverting it: give it to `aai edit` with --picture."
        )
    if options.guidance is None:
        options.guidance = GUIDANCE
    trajectory = _inverted(options, model, picture, options.prompt)
    trajectory.save(options.output, options.prompt)
    report = {"file": str(options.output), "prompt": options.prompt, "steps": len(trajectory.sigmas) - 1}
    print_report(options, report, f"{options.output}: {options.picture} in {report['steps']} steps")


def _inverted(options: argparse.Namespace, model: PictureModel, picture: Tensor, prompt: str) -> Trajectory:
    """The trajectory of a picture [3, H, W]."""
    from ..inject.invert import invert, null_text, reduced
    from ..prompt import Prompt

    latents = model.encode_images(reduced(picture[None], model.native_size))
    # Null embeddings belong to the sampler's own steps.
    steps = options.invert_steps or (getattr(options, "steps", 50) if options.null_text else 50)
    cond = model.encode_prompt(Prompt(prompt))
    with progress("inverting", steps, options.json) as tick:
        trajectory = invert(model, latents, cond, steps, lambda step, _: tick(step))
    if not options.null_text:
        return trajectory
    with progress("null-text", steps, options.json) as tick:
        empty = model.encode_prompt(Prompt(""))
        return null_text(
            model, trajectory, cond, empty, options.guidance, callback=lambda step, _: tick(step)
        )


def injection_settings(options: argparse.Namespace, model: PictureModel) -> dict:
    """`Edit`'s settings that were asked for. Raises InputError for one that the model cannot follow."""
    from ..inject.edit import windows

    if model.joint and options.blend:
        raise InputError(
            f"Where words look is not known of {model.family}: leave --blend out, and take --blend-changes "
            "or --mask."
        )
    unused = first_given(options, ("cross_until", "self_downscale")) if model.joint else None
    if unused:
        raise InputError(
            f"In {model.family} words and shapes share all layers, so {unused} does nothing: leave it out."
        )
    chosen = windows(options.style, transformer=model.joint)
    for name in ("cross", "self"):
        if getattr(options, f"{name}_until") is not None:
            chosen[f"{name}_window"] = (0.0, getattr(options, f"{name}_until"))
    for name in ("self_downscale", "silence"):
        if is_given(options, name):
            chosen[name] = getattr(options, name)
    return {"source_pooled": not options.edited_pooled, **chosen}


def with_blend(
    options: argparse.Namespace,
    edit: Edit,
    encode_prompt: Callable[[Prompt], Conditioning],
    mask: Tensor | None,
) -> Edit:
    """The edit limited to where it may change the picture: `mask_of`'s, and where was asked for."""
    from ..inject.edit import blended

    names = {"start": "blend_start", "threshold": "blend_threshold"}
    shares = {key: getattr(options, name) for key, name in names.items() if is_given(options, name)}
    return blended(edit, encode_prompt, options.blend, mask, changes=options.blend_changes, **shares)


def add_injection_arguments(sub: argparse.ArgumentParser) -> None:
    """What an edit keeps of its source, and where it may change it."""
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
        metavar="N",
        help="shapes are kept in layers N times coarser than the latent, or more (4)",
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
        metavar="S",
        help="from which share of the steps (0.2)",
    )
    sub.add_argument(
        "--blend-threshold",
        type=float,
        metavar="S",
        help="and where that is at least this share of its most; less lets more change (0.3)",
    )
    sub.add_argument(
        "--mask", type=Path, metavar="FILE", help="only where this picture is white may it change"
    )
    sub.add_argument(
        "--silence",
        choices=("full", "literal"),
        help="scales go from the source picture (0) to the edit (1) and beyond it, or eq. 8 alone (full)",
    )
    sub.add_argument(
        "--edited-pooled",
        action="store_true",
        help="SDXL: every edited picture takes its own pooled embedding, not the source's; changes more",
    )


def add_inversion_arguments(sub: argparse.ArgumentParser) -> None:
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
