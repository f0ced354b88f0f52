"""What commands are given: models and encoders by name, reference pictures, and a token trained from a
sound."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .terminal import positive, progress

if TYPE_CHECKING:
    import torch

    from ..adapt.settings import TrainSettings
    from ..adapt.train import TrainResult
    from ..encoders.base import SoundEncoder
    from ..encoders.text import TextTower
    from ..library.retrieval import Library, Retrieval
    from ..library.towers import VisualTower
    from ..picture.model import PictureModel

SOUNDWORLD = "soundworld"


def about_sound(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--encoder", default=SOUNDWORLD, metavar="FILE", help="a sound encoder's file (%(default)s)"
    )
    sub.add_argument(
        "--start", type=float, default=0.0, metavar="S", help="where the sound begins, in seconds"
    )
    sub.add_argument("--length", type=float, metavar="S", help="how much of it, in seconds (all)")


def about_clip(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--clip",
        type=Path,
        metavar="DIR",
        help="a CLIP model's folder that sees the pictures, for encoders that cannot",
    )


def about_device(
    sub: argparse.ArgumentParser, what: str = "the picture model", default: str | None = None
) -> None:
    """`--device`; without a default, `device_of` finds the best."""
    shown = default or "the GPU, where there is one"
    sub.add_argument(
        "--device", default=default, metavar="NAME", help=f"where {what} runs, as torch calls it ({shown})"
    )


def about_dtype(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        help="what the picture model computes in (float16; float32 on a CPU)",
    )


def about_training(sub: argparse.ArgumentParser) -> None:
    about_sound(sub)
    sub.add_argument(
        "--model", default=SOUNDWORLD, metavar="DIR", help="a diffusers model's folder (%(default)s)"
    )
    about_device(sub)
    about_dtype(sub)
    sub.add_argument(
        "--refs",
        default="auto",
        metavar="DIR",
        help="pictures to adapt to; auto: SoundWorld's own (%(default)s)",
    )
    about_clip(sub)
    sub.add_argument(
        "-k", type=positive, default=4, help="how many pictures, the nearest to the sound (%(default)s)"
    )
    sub.add_argument(
        "--train-steps", type=positive, default=60, metavar="N", help="training steps (%(default)s)"
    )
    sub.add_argument("--name", metavar="NAME", help="the token's name (the sound file's)")
    sub.add_argument("--seed", type=int, default=0, help="the same seed, the same result (%(default)s)")
    group = sub.add_argument_group("how the token is trained")
    for name, kind, metavar, text in TRAINING:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    group.add_argument("--checkpointing", action="store_true", help="much less memory, a third more time")
    group.add_argument(
        "--resume", metavar="FILE", help="a token whose training goes on, to --train-steps in all"
    )
    group.add_argument("--licence", metavar="TEXT", help="what the token's file says of the rights in it")


TRAINING = (
    ("rate", float, "R", "Adam's learning rate (0.005)"),
    ("batch", positive, "N", "pictures in a step (4)"),
    ("chunk", int, "N", "how many of them at a time: less memory, the same token (all)"),
    ("sound_scale", str, "WORD", "vocabulary: the sound gets the size of a word; raw: it stays as it is"),
    ("rho", float, "R", "how long the adapter may become, as a share of the sound's part; 0: no limit"),
    ("norm", str, "WORD", "how the word's length is held: free, soft, pinned (free)"),
    ("vectors", positive, "N", "how many words' places the token takes (1)"),
    ("template", str, "TEXT", "the training prompt, 'objects' or 'styles' (a photo of *)"),
    ("timesteps", str, "WORD", "stratified, antithetic, uniform (stratified)"),
    ("average", float, "SHARE", "what a moving average of the token keeps at each step (none)"),
    ("validate", int, "N", "after how many steps the loss on fixed noise is measured (never)"),
    ("patience", int, "N", "after how many such measurements without a better one training stops (never)"),
)


def settings_of(options: argparse.Namespace) -> TrainSettings:
    """What was said; the rest is TrainSettings' own."""
    from ..adapt.settings import TrainSettings

    said = {name: getattr(options, name) for name, *_ in TRAINING}
    # Where a command also draws, its --scale is the loudness's.
    said = {name.removeprefix("sound_"): value for name, value in said.items() if value is not None}
    if said.get("rho") == 0:
        said["rho"] = None
    return TrainSettings(
        steps=options.train_steps, seed=options.seed, checkpointing=options.checkpointing, **said
    )


def train(
    options: argparse.Namespace,
    model: PictureModel,
    on_stop: Callable[[TrainResult], None] | None = None,
) -> TrainResult:
    from .. import audio, token
    from ..adapt.train import train_token
    from ..embedding import name_of
    from ..encoders.base import encode_sound as hear_sound

    sound = audio.load(options.sound, options.start, options.length)
    encoder = load_encoder(options.encoder)
    heard = hear_sound(encoder, sound, Path(options.sound).name)
    images, names = references(options, encoder, heard.f_a, model)
    settings = settings_of(options)
    resume = None if options.resume is None else token.load(options.resume)
    with progress("training", settings.steps, options.json) as tick:
        return train_token(
            model,
            heard.f_a,
            images,
            settings,
            options.name or name_of(Path(options.sound).stem, "sound"),
            loudness=heard.loudness,
            provenance={
                "sound": heard.sound,
                "sound_hash": heard.hash,
                "encoder": heard.encoder,
                "model": options.model,
                "pictures": names,
                **({"licence": options.licence} if options.licence else {}),
            },
            callback=lambda step, total, loss: tick(step),
            on_stop=on_stop,
            resume=resume,
            table=(heard.labels, heard.label_vectors),
        )


def references(options: argparse.Namespace, encoder: SoundEncoder, f_a, model: PictureModel):
    """The reference pictures [N, 3, H, W] and their names in one line."""
    if options.refs == "auto":
        from ..soundworld import library as soundworld

        images, scores = soundworld.references(f_a, encoder, options.k)
        return images, "SoundWorld's library: " + ", ".join(f"{s:.3f}" for s in scores)
    from ..library import retrieval
    from ..library.towers import tower_of

    _, pictures = open_library(Path(options.refs), tower_of(encoder, options.clip, "--clip"), options.json)
    found = retrieval.retrieve(f_a, pictures, options.k, retrieval.clip_of(options.sound))
    tell_left_out(found)
    names = ", ".join(f"{r.path.name} {r.score:.3f}" for r in found.references)
    return retrieval.load_pictures([r.path for r in found.references], model.native_size), names


def tell_left_out(found: Retrieval) -> None:
    if found.note:
        print(found.note, file=sys.stderr)


def open_library(
    folder: Path, tower: VisualTower, quiet: bool, file: Path | None = None, fast: bool = False
) -> tuple[int, Library]:
    """A folder's library, with a bar, and how many pictures had to be seen."""
    from ..library.index import index, scan

    counted = [0]
    with progress("seeing pictures", len(scan(folder)), quiet) as tick:

        def note(done: int, total: int) -> None:
            counted[0] = done
            tick(done)

        retrieval = index(folder, tower, file, fast=fast, callback=note)
    return counted[0], retrieval


def load_encoder(name: str) -> SoundEncoder:
    if name == SOUNDWORLD:
        from ..soundworld.loaders import load_sound_encoder

        return load_sound_encoder()
    from ..encoders.loaders import load

    return load(name)


def load_text_tower(name: str) -> TextTower:
    if name == SOUNDWORLD:
        from ..soundworld.loaders import WEIGHTS, load_text
        from ..soundworld.text import CaptionEncoder

        return CaptionEncoder(*load_text(WEIGHTS))
    from ..encoders.clip import load_clip_text

    return load_clip_text(name)


def load_model(name: str, device: str | None, dtype: str | None = "float32") -> PictureModel:
    """A picture model on a device, in a dtype; without one, in the device's usual."""
    import torch

    place = device_of(device)
    kind = getattr(torch, dtype or ("float32" if place.type == "cpu" else "float16"))
    if name == SOUNDWORLD:
        from ..soundworld.loaders import load_picture_model

        return load_picture_model().to(place, kind)
    from ..picture.diffusers import load

    return load(name, kind).to(place)


def device_of(name: str | None) -> torch.device:
    """The device of this name, or without one the best that is here. Raises InputError for one that is not
    here."""
    import torch

    if name is None:
        return _best_device()
    try:
        # A device may be known by name and not be here, or hold no numbers.
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(
            f"There is no device '{name}' here that torch can use: name another, or leave --device out."
        ) from error
    return torch.device(name)


def _best_device() -> torch.device:
    import torch

    # torch.accelerator came with torch 2.6.
    if hasattr(torch, "accelerator") and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(kind)


def about_force(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--force", action="store_true", help="replace a file that aai has not written")


def check_output(
    output: Path, what: str, endings: Sequence[str], is_ours: Callable[[Path], bool], force: bool
) -> None:
    """Raises InputError, before there is anything to lose, where `what` cannot be kept under this name: its
    ending is its format, and only a file that `is_ours` is replaced, unless `force`."""
    example = f"rain{endings[0]}"
    try:
        if output.is_dir():
            raise InputError(f"'{output}' is a folder: name a file in it, as {output / example}.")
        if not output.parent.is_dir():
            raise InputError(f"There is no folder '{output.parent}' for '{output.name}': make it first.")
        there = output.exists()
        if there and not output.is_file():
            raise InputError(f"'{output}' is a device or a pipe: name a file, as {example}.")
    except OSError as error:
        raise InputError(f"'{output}' can name no file ({error.strerror}): choose another name.") from error
    if output.suffix.lower() not in endings:
        raise InputError(f"'{output}' is no name of {what}: let it end in {' or '.join(endings)}.")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"The folder '{output.parent}' cannot be written to: choose another for {what}.")
    if there and not force and not is_ours(output):
        raise InputError(
            f"'{output}' was not written by aai as {what}: choose another name, or replace it with --force."
        )


def check_folder(output: Path) -> None:
    """Raises InputError where a folder cannot be made, or is a file."""
    try:
        taken = output.exists() and not output.is_dir()
    except OSError as error:
        raise InputError(f"'{output}' can name no folder ({error.strerror}): choose another.") from error
    if taken:
        raise InputError(f"'{output}' is a file: name a folder.")


def check_token_file(output: Path, force: bool) -> None:
    from ..token import is_ours

    check_output(output, "a sound token", (".safetensors",), is_ours, force)


def check_picture_file(output: Path, force: bool) -> None:
    from .. import image

    check_output(output, "a picture", tuple(image.WRITTEN), image.is_ours, force)


def check_encoder_file(output: Path, force: bool) -> None:
    from ..encoders.loaders import is_ours

    check_output(output, "a sound encoder", (".safetensors",), is_ours, force)
