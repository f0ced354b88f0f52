"""`aai token`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .inputs import about_training, load_model, train
from .terminal import Commands, tell


def add(commands: Commands) -> None:
    sub = commands.add(
        "token", token, "make a sound token", "aai token rain.wav --refs photos -o rain.safetensors"
    )
    sub.add_argument("sound", metavar="FILE", help="an audio file, or a video with sound")
    sub.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the token's .safetensors file"
    )
    about_training(sub)


def token(options: argparse.Namespace) -> None:
    made, losses = train(options, load_model(options.model))
    made.save(options.output)
    report = {
        "token": made.name,
        "file": str(options.output),
        "steps": len(losses),
        "loss": losses[-1],
        "cosine": made.cosine(),
        "lufs": round(made.loudness, 2),
    }
    tell(
        options,
        report,
        f"{options.output}: the token <{made.name}>, {len(losses)} steps, loss {losses[-1]:.4f}",
    )
