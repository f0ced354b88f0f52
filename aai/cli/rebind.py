"""`aai rebind`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .inputs import about_force, about_sound, check_token_file, load_encoder
from .terminal import Commands, tell


def add(commands: Commands) -> None:
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
    about_force(sub)
    about_sound(sub)


def rebind(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from .. import audio
    from ..align.encoder import hear
    from ..token import load

    check_token_file(options.output, options.force)
    token = load(options.token)
    heard = hear(
        load_encoder(options.encoder),
        audio.load(options.sound, options.start, options.length),
        Path(options.sound).name,
    )
    made = token.with_sound(heard.f_a, heard.loudness, {"sound": heard.sound, "encoder": heard.encoder})
    made = replace(made, name=options.name or made.name)
    made.save(options.output)
    report = {
        "token": made.name,
        "file": str(options.output),
        "sound": heard.sound,
        "cosine": made.cosine(),
        "lufs": round(heard.loudness, 2),
    }
    tell(options, report, f"{options.output}: the token <{made.name}> of {heard.sound}, not trained again")
