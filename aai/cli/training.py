"""A token from a sound, which `aai token` and every command with `--sound` make: the arguments, the reference
pictures, the training itself, and the word that an adapter makes at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_clip_argument, add_model_arguments, add_sound_arguments
from .library import open_library, print_left_out
from .models import PICTURE_MODELS, embed_sound, load_encoder
from .terminal import limit, positive, progress, seed

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapt.settings import TrainSettings
    from ..adapt.train import TrainResult
    from ..encoders.base import SoundEncoder
    from ..picture.model import PictureModel

AUTO, PICTURES, STEPS = "auto", 4, 60
"""SoundWorld's own pictures, how many of them a token is trained on, and for how many steps."""
TRAINING = (
    ("rate", float, "R", "Adam's learning rate (0.005)"),
    ("batch", positive, "N", "pictures in a step (4)"),
    ("chunk", int, "N", "how many of them at a time: less memory, the same token (all)"),
    ("sound_scale", str, "WORD", "vocabulary: the sound gets the size of a word; raw: it stays as it is"),
    ("rho", limit, "R", "how long the adapter may become, as a share of the sound's part; 0: no limit"),
    ("norm", str, "WORD", "how the word's length is held: free, soft, pinned, direction (free)"),
    ("kappa", float, "K", "how strongly norm direction holds the word to the sound (0.0001)"),
    ("vectors", positive, "N", "how many words' places the token takes (1)"),
    ("template", str, "TEXT", "the training prompt, 'objects' or 'styles' (a photo of *)"),
    ("timesteps", str, "WORD", "stratified, antithetic, uniform (stratified)"),
    ("average", float, "SHARE", "what a moving average of the token keeps at each step (none)"),
    ("validate", int, "N", "after how many steps the loss on fixed noise is measured (never)"),
    ("patience", int, "N", "after how many such measurements without a better one training stops (never)"),
)


def add_training_arguments(sub: argparse.ArgumentParser, listed: bool = True) -> None:
    """The sound, the models, and how the token is made. A command that draws takes all of training's own
    options too, but lists only the usual ones: `aai token` lists them all."""
    add_sound_arguments(sub.add_argument_group("the sound"))
    add_model_arguments(sub.add_argument_group("the picture model"), PICTURE_MODELS)
    more = None if listed else "`aai token --help` lists more."
    made = sub.add_argument_group("how the token is made", more)
    made.add_argument(
        "--instant",
        action="store_true",
        help="make the word at once, by an adapter for every sound, without training",
    )
    made.add_argument(
        "--adapter",
        type=Path,
        metavar="FILE",
        help="the adapter that --instant takes, of aai adapt train (SoundWorld's)",
    )
    made.add_argument(
        "--refs",
        metavar="DIR",
        help=f"pictures to adapt to; {AUTO}: SoundWorld's own ({AUTO})",
    )
    add_clip_argument(made)
    made.add_argument("-k", type=positive, help=f"how many pictures, the nearest to the sound ({PICTURES})")
    made.add_argument("--train-steps", type=positive, metavar="N", help=f"training steps ({STEPS})")
    made.add_argument("--name", metavar="NAME", help="the token's name (the sound file's)")
    made.add_argument("--seed", type=seed, default=0, help="the same seed, the same result (%(default)s)")

    def told(text: str) -> str:
        return text if listed else argparse.SUPPRESS

    for name, kind, metavar, text in TRAINING:
        made.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=told(text))
    made.add_argument(
        "--checkpointing", action="store_true", help=told("much less memory, a third more time")
    )
    made.add_argument(
        "--resume", metavar="FILE", help=told("a token whose training resumes, to --train-steps in all")
    )
    made.add_argument(
        "--licence", metavar="TEXT", help=told("what the token's file says of the rights in it")
    )


def token_name(options: argparse.Namespace) -> str:
    """What the sound's token is called: as was asked, or as its file."""
    from ..embedding import name_of

    return options.name or name_of(Path(options.sound).stem, "sound")


def make_word(
    options: argparse.Namespace,
    model: PictureModel,
    on_stop: Callable[[TrainResult], None] | None = None,
) -> TrainResult:
    """The sound's token, trained, or with --instant made at once."""
    if options.instant:
        return instant(options, model)
    return train(options, model, on_stop)


def instant(options: argparse.Namespace, model: PictureModel) -> TrainResult:
    """The sound's token by a universal adapter, with a note where the encoder does not know the sound.

    Raises InputError for a model without an adapter, and one of another model or encoder.
    """
    from ..adapt.train import TrainResult
    from ..adapt.universal import unknown
    from ..adapt.universal_file import load
    from ..soundworld.loaders import load_adapter

    adapter = load_adapter(model) if options.adapter is None else load(options.adapter)
    embedding = embed_sound(options, load_encoder(options.encoder))
    adapter.check(embedding, model)
    facts = {
        **embedding.provenance(),
        "model": options.model,
        **({"licence": options.licence} if options.licence else {}),
    }
    made = adapter.token(embedding.f_a, token_name(options), embedding.loudness, facts)
    return TrainResult(made, [], note=unknown(embedding))


def settings_of(options: argparse.Namespace) -> TrainSettings:
    """The training settings that were given; the rest are TrainSettings' defaults."""
    from ..adapt.settings import TrainSettings

    given = {name: getattr(options, name) for name, *_ in TRAINING}
    # Where a command also draws, its --scale is the loudness's.
    given = {name.removeprefix("sound_"): value for name, value in given.items() if value is not None}
    if given.get("rho") == 0:
        given["rho"] = None
    return TrainSettings(
        steps=options.train_steps or STEPS, seed=options.seed, checkpointing=options.checkpointing, **given
    )


def train(
    options: argparse.Namespace,
    model: PictureModel,
    on_stop: Callable[[TrainResult], None] | None = None,
) -> TrainResult:
    """Loads the sound, finds its reference pictures and trains a token on them.

    `on_stop` takes the token so far where the training is interrupted.
    """
    from .. import token
    from ..adapt.train import train_token

    encoder = load_encoder(options.encoder)
    embedding = embed_sound(options, encoder)
    images, names = references(options, encoder, embedding.f_a, model)
    settings = settings_of(options)
    resume = None if options.resume is None else token.load(options.resume)
    with progress("training", settings.steps, options.json) as tick:
        return train_token(
            model,
            embedding.f_a,
            images,
            settings,
            token_name(options),
            loudness=embedding.loudness,
            provenance={
                **embedding.provenance(),
                "model": options.model,
                "pictures": names,
                **({"licence": options.licence} if options.licence else {}),
            },
            callback=lambda step, total, loss: tick(step),
            on_stop=on_stop,
            resume=resume,
            table=(embedding.labels, embedding.label_vectors),
        )


def references(
    options: argparse.Namespace, encoder: SoundEncoder, f_a: Tensor, model: PictureModel
) -> tuple[Tensor, str]:
    """The reference pictures [N, 3, H, W] and their names in one line."""
    count = options.k or PICTURES
    if options.refs in (None, AUTO):
        from ..soundworld import library as soundworld

        images, scores = soundworld.references(f_a, encoder, count)
        return images, "SoundWorld's library: " + ", ".join(f"{s:.3f}" for s in scores)
    from ..library import retrieval
    from ..library.towers import tower_of

    _, pictures = open_library(Path(options.refs), tower_of(encoder, options.clip, "--clip"), options.json)
    nearest = retrieval.retrieve(f_a, pictures, count, retrieval.clip_of(options.sound))
    print_left_out(nearest)
    names = ", ".join(f"{r.path.name} {r.score:.3f}" for r in nearest.references)
    return retrieval.load_pictures([r.path for r in nearest.references], model.native_size), names
