"""The `aai` command: hear a sound, make a token of it, draw pictures with it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .align.encoder import SoundEncoder
    from .picture.model import PictureModel
    from .token import SoundToken

SOUNDWORLD = "soundworld"
LARGEST_SIDE = 2
"""Pictures to edit are reduced to so many times the model's own size."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, or 2 with one sentence on stderr where the input is at
    fault."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        options.run(options)
    except InputError as error:
        print(f"aai: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aai: stopped.", file=sys.stderr)
        return 130
    return 0


def hear(options: argparse.Namespace) -> None:
    from . import audio
    from .align.encoder import hear as hear_sound
    from .align.encoder import nearest_words

    encoder = _encoder(options.encoder)
    rows = []
    for path in options.files:
        heard = hear_sound(encoder, audio.load(path, options.start, options.length), str(path))
        (words,) = nearest_words(encoder, heard.f_a[None], options.words)
        rows.append(
            {
                "file": str(path),
                "lufs": round(heard.loudness, 2),
                "words": [{"word": word, "score": round(score, 4)} for word, score in words],
            }
        )
        if not options.json:
            shown = ", ".join(f"{word} {score:.0%}" for word, score in words)
            print(f"{path}  ({heard.loudness:.1f} LUFS): {shown}")
    if options.json:
        print(json.dumps(rows, indent=1))


def token(options: argparse.Namespace) -> None:
    made, losses = _train(options, _model(options.model))
    made.save(options.output)
    report = {
        "token": made.name,
        "file": str(options.output),
        "steps": len(losses),
        "loss": losses[-1],
        "cosine": made.cosine(),
        "lufs": round(made.loudness, 2),
    }
    _tell(
        options,
        report,
        f"{options.output}: the token <{made.name}>, {len(losses)} steps, loss {losses[-1]:.4f}",
    )


def generate(options: argparse.Namespace) -> None:
    from .inject.edit import reweighted
    from .prompt import Prompt

    model, tokens = _model_and_tokens(options)
    cond = model.encode_prompt(Prompt(options.prompt, tokens))
    scales = _scales(options, tokens, None)
    edit = None if scales is None else reweighted(None, cond.reads, scales)
    seeds, names = list(range(options.seed, options.seed + options.count)), [""]
    if edit is not None and edit.rows > 1:
        names = [f"_{scale:g}" for scale in scales]
    written = _draw(options, model, cond, seeds, names, edit)
    report = {"prompt": options.prompt, "tokens": [t.name for t in tokens], "pictures": written}
    _tell(options, report, "\n".join(row["file"] for row in written))


def edit(options: argparse.Namespace) -> None:
    from .inject.edit import STYLE_WINDOWS, Edit, blended, encode, sweep
    from .inject.invert import load
    from .prompt import Prompt

    model, tokens = _model_and_tokens(options)
    scales = _scales(options, tokens, [1.0])
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
        way = _inverted(options, model, options.picture, source)
    edited, each = sweep([Prompt(text, tokens) for text in options.edited], scales)
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
        **windows,
    )
    count = len(edited)
    told = blended(told, model.encode_prompt, options.blend, _mask(options.mask))
    names = ["_source", *([""] if count == 1 else (f"_{i + 1}" for i in range(count)))]
    seeds = list(range(options.seed, options.seed + options.count))
    written = _draw(options, model, encode(model.encode_prompt, told), seeds, names, told)
    for row, place in zip(written, [*range(told.rows)] * len(seeds)):
        row["prompt"] = source if place == 0 else edited[place - 1].text
        row["scale"] = None if place == 0 else max(each[place - 1].values())
    report = {"source": source, "tokens": [t.name for t in tokens], "pictures": written}
    _tell(options, report, "\n".join(row["file"] for row in written))


def invert(options: argparse.Namespace) -> None:
    _check_folder(options.output)
    model = _model(options.model)
    way = _inverted(options, model, options.picture, options.prompt)
    way.save(options.output, options.prompt)
    report = {"file": str(options.output), "prompt": options.prompt, "steps": len(way.sigmas) - 1}
    _tell(options, report, f"{options.output}: {options.picture} in {report['steps']} steps")


def _inverted(options: argparse.Namespace, model: PictureModel, path: Path, prompt: str):
    from . import image
    from .inject.invert import invert, null_text
    from .prompt import Prompt

    picture = image.load(path)[None]
    largest = LARGEST_SIDE * model.native_size
    if max(picture.shape[-2:]) > largest:
        import torch

        factor = largest / max(picture.shape[-2:])
        picture = torch.nn.functional.interpolate(
            picture, scale_factor=factor, mode="bicubic", antialias=True
        ).clamp(0, 1)
    latents = model.encode_images(picture)
    # Null embeddings belong to the sampler's own steps.
    steps = options.invert_steps or (getattr(options, "steps", 50) if options.null_text else 50)
    told = model.encode_prompt(Prompt(prompt))
    with _progress("inverting", steps, options.json) as tick:
        way = invert(model, latents, told, steps, lambda step, _: tick(step))
    if not options.null_text:
        return way
    with _progress("null-text", steps, options.json) as tick:
        empty = model.encode_prompt(Prompt(""))
        return null_text(model, way, told, empty, options.guidance, callback=lambda step, _: tick(step))


def _mask(path: Path | None):
    """A picture's brightness [H, W] in [0, 1]; None for no file."""
    if path is None:
        return None
    from . import image

    return image.load(path).mean(0)


def _check_folder(output: Path) -> None:
    if not output.parent.is_dir():
        raise InputError(f"There is no folder '{output.parent}' for '{output.name}': make it first.")


def _model_and_tokens(options: argparse.Namespace) -> tuple[PictureModel, tuple[SoundToken, ...]]:
    from . import token as tokens

    _check_folder(options.output)
    model = _model(options.model)
    used = [tokens.load(path) for path in options.token]
    if options.sound:
        used.append(_train(options, model)[0])
    return model, tuple(used)


def _scales(
    options: argparse.Namespace, tokens: tuple[SoundToken, ...], without: list[float] | None
) -> list[float] | None:
    """Eq. 8's scales: as given, or by the first token's loudness, or what there is `without` either."""
    from .inject.loudness import read_scales, scale_of

    if options.scale is None:
        return without
    if options.scale != "loudness":
        return read_scales(options.scale)
    heard = next((t.loudness for t in tokens if t.loudness is not None), None)
    if heard is None:
        raise InputError("No sound token here knows its sound's loudness: give the scale as a number.")
    return [scale_of(heard, options.reference)]


def _draw(
    options: argparse.Namespace, model: PictureModel, cond, seeds: list[int], names: list[str], edit
) -> list[dict]:
    """Samples and writes the pictures of every seed, one for each of `names`; returns a row for each."""
    from . import image
    from .prompt import Prompt

    with _progress("drawing", options.steps, options.json) as tick:
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
    places = [(seed, name) for seed in seeds for name in names]
    for (seed, name), picture in zip(places, model.decode(latents)):
        numbered = f"_{seed}" if len(seeds) > 1 else ""
        path = options.output.with_stem(f"{options.output.stem}{numbered}{name}")
        image.save(picture, path)
        written.append({"file": str(path), "seed": seed})
    return written


def demo(options: argparse.Namespace) -> None:
    from .demo import run

    report = run(options.output, engine=options.engine, serve=options.serve, say=_say(options))
    shown = f"{options.output / 'index.html'}: {len(report['pictures'])} pictures through {report['engine']}"
    _tell(options, report, shown)


def _say(options: argparse.Namespace) -> Callable[[str], None]:
    return lambda text: print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def _train(options: argparse.Namespace, model: PictureModel) -> tuple[SoundToken, list[float]]:
    from . import audio
    from .adapt.train import TrainSettings, train_token
    from .align.encoder import hear as hear_sound

    sound = audio.load(options.sound, options.start, options.length)
    encoder = _encoder(options.encoder)
    heard = hear_sound(encoder, sound, Path(options.sound).name)
    images, names = _references(options, encoder, heard.f_a, model)
    settings = TrainSettings(steps=options.train_steps, seed=options.seed)
    with _progress("training", settings.steps, options.json) as tick:
        result = train_token(
            model,
            heard.f_a,
            images,
            settings,
            options.name or Path(options.sound).stem,
            loudness=heard.loudness,
            provenance={
                "sound": heard.sound,
                "encoder": heard.encoder,
                "model": options.model,
                "pictures": names,
            },
            callback=lambda step, total, loss: tick(step),
        )
    return result.token, result.losses


def _references(options: argparse.Namespace, encoder: SoundEncoder, f_a, model: PictureModel):
    """The reference pictures [N, 3, H, W] and their names in one line."""
    if options.refs == "auto":
        from . import soundworld

        images, scores = soundworld.references(f_a, encoder, options.k)
        return images, "SoundWorld's library: " + ", ".join(f"{s:.3f}" for s in scores)
    from .adapt import library

    found = library.references(f_a, library.index(options.refs, encoder), options.k)
    names = ", ".join(f"{r.path.name} {r.score:.3f}" for r in found)
    return library.load_pictures([r.path for r in found], model.native_size), names


def _encoder(name: str) -> SoundEncoder:
    if name == SOUNDWORLD:
        from .soundworld import load_sound_encoder

        return load_sound_encoder()
    from .align.encoder import load

    return load(name)


def _model(name: str) -> PictureModel:
    if name == SOUNDWORLD:
        from .soundworld import load_picture_model

        return load_picture_model()
    from .picture.diffusers import load

    return load(name)


class _progress:
    """A bar on a terminal's stderr, nothing elsewhere: with _progress("drawing", 30, quiet) as tick:
    tick(step)."""

    def __init__(self, what: str, total: int, quiet: bool):
        self.what, self.total, self.shown = what, total, sys.stderr.isatty() and not quiet

    def __enter__(self) -> Callable[[int], None]:
        return self.tick

    def tick(self, step: int) -> None:
        if self.shown:
            done = round(30 * step / self.total)
            print(
                f"\r{self.what} [{'#' * done}{' ' * (30 - done)}] {step}/{self.total}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *_) -> None:
        if self.shown:
            print(file=sys.stderr)


def _tell(options: argparse.Namespace, report: dict, text: str) -> None:
    print(json.dumps(report, indent=1) if options.json else text)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aai",
        description="Paint with sound: a recording becomes one word of a picture model, a sound token.",
        epilog="Without other models, every command uses SoundWorld, the small world that comes with aai.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"Example: {example}"
        )
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        return sub

    def about_sound(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--encoder", default=SOUNDWORLD, metavar="FILE", help="a sound encoder's file (%(default)s)"
        )
        sub.add_argument(
            "--start", type=float, default=0.0, metavar="S", help="where the sound begins, in seconds"
        )
        sub.add_argument("--length", type=float, metavar="S", help="how much of it, in seconds (all)")

    def about_training(sub: argparse.ArgumentParser) -> None:
        about_sound(sub)
        sub.add_argument(
            "--model", default=SOUNDWORLD, metavar="DIR", help="a diffusers model's folder (%(default)s)"
        )
        sub.add_argument(
            "--refs",
            default="auto",
            metavar="DIR",
            help="pictures to adapt to; auto: SoundWorld's own (%(default)s)",
        )
        sub.add_argument(
            "-k", type=_positive, default=4, help="how many pictures, the nearest to the sound (%(default)s)"
        )
        sub.add_argument(
            "--train-steps", type=_positive, default=60, metavar="N", help="training steps (%(default)s)"
        )
        sub.add_argument("--name", metavar="NAME", help="the token's name (the sound file's)")
        sub.add_argument("--seed", type=int, default=0, help="the same seed, the same result (%(default)s)")

    def about_inverting(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--invert-steps",
            type=_positive,
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
            "the sound's own",
        )
        sub.add_argument(
            "--reference",
            type=float,
            default=-23.0,
            metavar="LUFS",
            help="the loudness that counts as scale 1 (%(default)s)",
        )
        sub.add_argument("--negative", default="", metavar="PROMPT", help="what the picture should not be")
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="PNG", help="the picture's file")
        sub.add_argument(
            "--count",
            type=_positive,
            default=1,
            metavar="N",
            help="how many, with following seeds (%(default)s)",
        )
        sub.add_argument("--steps", type=_positive, default=30, help="sampling steps (%(default)s)")
        sub.add_argument("--guidance", type=float, default=5.0, help="classifier-free guidance (%(default)s)")
        sub.add_argument("--width", type=_positive, help="pixels (the model's own)")
        sub.add_argument("--height", type=_positive, help="pixels (the model's own)")
        about_training(sub)

    sub = command("hear", hear, "say what sounds are, in words", "aai hear rain.wav dog.mp3")
    sub.add_argument("files", nargs="+", metavar="FILE", help="audio files, or videos with sound")
    sub.add_argument(
        "--words", type=_positive, default=3, metavar="N", help="how many words for each (%(default)s)"
    )
    about_sound(sub)

    sub = command(
        "token", token, "make a sound token", "aai token rain.wav --refs photos -o rain.safetensors"
    )
    sub.add_argument("sound", metavar="FILE", help="an audio file, or a video with sound")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the token's .safetensors file"
    )
    about_training(sub)

    sub = command(
        "generate",
        generate,
        "draw pictures with sound tokens",
        'aai generate --token rain.safetensors --prompt "a city under *" -o city.png',
    )
    sub.add_argument(
        "--prompt", default="a photo of *", help="* is the first token, <name> another (%(default)s)"
    )
    about_drawing(sub)

    sub = command(
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
        "--trajectory", type=Path, metavar="FILE", help="one that `aai invert` has inverted already"
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
        type=_positive,
        default=4,
        metavar="N",
        help="shapes are kept in layers N times coarser than the latent, or more (%(default)s)",
    )
    sub.add_argument(
        "--blend", default="", metavar="WORDS", help='only where these words look may it change: "*, fire"'
    )
    sub.add_argument(
        "--mask", type=Path, metavar="FILE", help="only where this picture is white may it change"
    )
    sub.add_argument(
        "--silence",
        choices=("full", "literal"),
        default="full",
        help="scale 0 is the source picture, or eq. 8 alone (%(default)s)",
    )
    about_drawing(sub)

    sub = command(
        "invert",
        invert,
        "find the noise that a picture of yours would come from, to edit it more than once",
        'aai invert house.png --prompt "a village" -o house.safetensors',
    )
    sub.add_argument("picture", type=Path, metavar="PICTURE", help="a picture file")
    sub.add_argument("--prompt", required=True, help="what it shows")
    sub.add_argument(
        "--guidance", type=float, default=5.0, help="the guidance that --null-text is for (%(default)s)"
    )
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file of its way"
    )
    sub.add_argument(
        "--model", default=SOUNDWORLD, metavar="DIR", help="a diffusers model's folder (%(default)s)"
    )
    about_inverting(sub)

    sub = command("demo", demo, "turn ten sounds into pictures and show them on a page", "aai demo")
    sub.add_argument("-o", "--output", type=Path, default=Path("out/demo"), metavar="DIR", help="%(default)s")
    sub.add_argument(
        "--engine", choices=("auto", "comfyui", "diffusers"), default="auto", help="what draws (%(default)s)"
    )
    sub.add_argument("--serve", action="store_true", help="leave ComfyUI open on the example afterwards")
    return parser


if __name__ == "__main__":
    sys.exit(main())
