"""`aai token`, `aai rebind`: sound tokens, trained, or with another sound."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_force_argument, add_sound_arguments, check_together
from .models import embed_sound, load_encoder, load_model
from .outputs import check_token_file, free_name, save_trained
from .terminal import Commands, print_report
from .training import add_training_arguments, make_word

if TYPE_CHECKING:
    from ..adapt.train import TrainResult


def add(commands: Commands) -> None:
    sub = commands.add(
        "token", token, "make a sound token", "aai token rain.wav --refs photos -o rain.safetensors"
    )
    sub.add_argument("sound", metavar="FILE", help="an audio file, or a video with sound")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the token's .safetensors file"
    )
    add_force_argument(sub)
    add_training_arguments(sub)

    sub = commands.add(
        "rebind",
        rebind,
        "give a token another sound and keep its adapter (Fig. 6b), without training",
        "aai rebind rain.safetensors heavier_rain.wav -o heavier.safetensors",
    )
    sub.add_argument("token", type=Path, metavar="TOKEN", help="a token that aai trained")
    sub.add_argument("sound", metavar="SOUND", help="the other sound, best of the same class")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the new token's .safetensors file"
    )
    sub.add_argument("--name", metavar="NAME", help="the new token's name (the old one's)")
    add_force_argument(sub)
    add_sound_arguments(sub)


def token(options: argparse.Namespace) -> None:
    check_together(options, "token")
    check_token_file(options.output, options.force)

    def keep(stopped: TrainResult) -> None:
        path = free_name(options.output, int(stopped.token.provenance["steps"]))
        stopped.token.save(path)
        print(f"Training stopped; the token so far is {path}.", file=sys.stderr)

    result = make_word(options, load_model(options.model, options.device, options.dtype), keep)
    made, losses = result.token, result.losses
    save_trained(made.save, options.output, int(made.provenance["steps"]))
    report = {
        "token": made.name,
        "file": str(options.output),
        "steps": int(made.provenance["steps"]),
        # A resumed run may find, before its first step, that it has waited long enough.
        "loss": losses[-1] if losses else None,
        "validations": result.validations,
        "note": result.note,
        "cosine": made.cosine(),
        "lufs": round(made.loudness, 2),
    }
    print_report(
        options,
        report,
        f"{options.output}: the token <{made.name}>, "
        + ("at once" if options.instant else f"{made.provenance['steps']} steps")
        + (f", loss {losses[-1]:.4f}" if losses else "")
        + (f"\n{result.note}" if result.note else ""),
    )


def rebind(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from ..token import load

    check_token_file(options.output, options.force)
    token = load(options.token)
    embedding = embed_sound(options, load_encoder(options.encoder))
    origin = {"sound": embedding.sound, "encoder": embedding.encoder}
    made = token.with_sound(embedding.f_a, embedding.loudness, origin)
    made = replace(made, name=options.name or made.name)
    made.save(options.output)
    report = {
        "token": made.name,
        "file": str(options.output),
        "sound": embedding.sound,
        "cosine": made.cosine(),
        "lufs": round(embedding.loudness, 2),
    }
    print_report(
        options, report, f"{options.output}: the token <{made.name}> of {embedding.sound}, not trained again"
    )
