"""`python -m aai.soundworld.build`: makes SoundWorld's weights from nothing.

The parts are made in order, each kept in the work folder when done, so a stopped run resumes where it was.
Real recordings join the synthesized sounds where their folders are given: ESC-10's folders of classes
(`FOLD-ID-TAKE.ogg`), and what `python -m aai.soundworld.build.debian` brings; without them the encoder is
trained on synthesized sounds only. `--export` copies the finished parts
into `weights/` as float16 safetensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..loaders import WEIGHTS
from ..world import FOLDS
from .ears import Sources
from .recipe import Build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("out/soundworld"), help="where the parts are kept (%(default)s)"
    )
    parser.add_argument(
        "--recordings", type=Path, help="ESC-10's folder of classes, to train on real sounds too"
    )
    parser.add_argument("--debian", type=Path, help="the folder of recordings from Debian's packages")
    parser.add_argument(
        "--unet-minutes", type=float, default=110, help="training time of the U-Net in all (%(default)s)"
    )
    parser.add_argument(
        "--flow-minutes", type=float, default=100, help="training time of the transformer (%(default)s)"
    )
    parser.add_argument(
        "--both-minutes",
        type=float,
        default=60,
        help="training time of each on pictures of two events as well (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true", help=f"write the finished weights to {WEIGHTS}")
    arguments = parser.parse_args()
    sources = Sources(arguments.recordings, arguments.debian)
    build = Build(
        arguments.work,
        sources,
        arguments.unet_minutes,
        arguments.flow_minutes,
        arguments.both_minutes,
        arguments.seed,
    )
    for part in (
        build.caption_encoder,
        build.pictures,
        build.oracle,
        lambda: build.sound_encoder().tuned(FOLDS),
        build.unet,
        build.flow,
        build.autoencoder,
    ):
        part()
    if arguments.export:
        build.export(WEIGHTS)


if __name__ == "__main__":
    main()
