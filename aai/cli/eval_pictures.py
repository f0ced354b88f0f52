"""`aai eval pictures`: AIS, AIC and IIS."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import add_clip_argument, add_device_argument, add_force_argument
from .models import SOUNDWORLD, device_of, load_encoder
from .outputs import check_json_file
from .terminal import Commands, progress, report_table

if TYPE_CHECKING:
    from ..study.scores import Space


def add(group: Commands) -> None:
    sub = group.add(
        "pictures",
        pictures,
        "AIS, AIC and IIS of pictures that were drawn from sounds, a row for each folder of them",
        "aai eval pictures ours gluenet --sounds clips --clip clip-vit-base-patch32 --wav2clip Wav2CLIP.pt",
    )
    sub.add_argument(
        "data",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="pictures called like their sounds: 7.png, 7_2.png, 7/2.png",
    )
    sub.add_argument("--sounds", type=Path, required=True, metavar="DIR", help="the sounds, a folder a class")
    sub.add_argument(
        "--frames", type=Path, metavar="DIR", help="the sounds' true pictures, called like them (for IIS)"
    )
    sub.add_argument(
        "--encoder", metavar="FILE", help=f"an encoder that sees, as judge ({SOUNDWORLD}, without --clip)"
    )
    add_clip_argument(sub, "a CLIP model's folder, as judge")
    sub.add_argument("--wav2clip", type=Path, metavar="FILE", help="Wav2CLIP's weights, for AIS with --clip")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the result as JSON too (.json)")
    add_device_argument(sub, "the encoder")
    add_force_argument(sub)


def pictures(options: argparse.Namespace) -> None:
    from ..study.drawn import DrawnScores, heard_of, measure, pictures_by_sound

    if options.output:
        check_json_file(options.output, "a result", {"data", "sounds", "rows"}, options.force)
    heard = heard_of(options.sounds)
    drawn = {folder: pictures_by_sound(folder, heard) for folder in options.data}
    spaces = _spaces(options, heard.classes)
    with progress("hearing", len(heard.files) * len(spaces), options.json) as tick:
        scorers = {
            name: DrawnScores(
                space, heard, options.frames, lambda done, n=n: tick(n * len(heard.files) + done)
            )
            for n, (name, space) in enumerate(spaces.items())
        }
    rows, lines = [], []
    notes = [
        f"{name} has no word for some of the classes, so there is no AIC by it."
        for name, space in spaces.items()
        if space.words is None
    ]
    notes += [
        f"AIC by {name} asks for '{space.template.format('...')}'; SonicDiffusion's takes the bare name, and "
        "CLIP ViT-L/14 for AIC and IIS, so that its figures are not comparable with these to the letter."
        for name, space in spaces.items()
        if space.score
    ]
    for folder, (by_sound, strangers) in drawn.items():
        with progress(str(folder), len(by_sound), options.json) as tick:
            figures = measure(by_sound, scorers, tick)
        count = sum(map(len, by_sound.values()))
        rows.append(
            {"pictures": str(folder), "count": count, "sounds": len(by_sound), "strangers": strangers}
        )
        rows[-1]["figures"] = {
            name: {"value": f.value, "interval": f.interval and [*f.interval], "sounds": f.sounds}
            for name, f in figures.items()
        }
        for name, figure in figures.items():
            between = " to ".join(f"{100 * end:.1f}" for end in figure.interval or ())
            size = f"{count} pictures of {figure.sounds} sounds"
            lines.append((str(folder), name, f"{100 * figure.value:.2f}", between, size))
        if strangers:
            notes.append(f"{folder}: {strangers} pictures are called like no sound, and left out.")
    if len(options.data) > 1 and len({frozenset(by_sound) for by_sound, _ in drawn.values()}) > 1:
        notes.append("The folders are not of the same sounds, so their rows are not one comparison.")
    head = ("pictures", "measure", "%", "95 % interval", "set")
    report = {"data": [str(folder) for folder in options.data], "sounds": str(options.sounds), "rows": rows}
    report_table(options, report, head, lines, notes)


def _spaces(options: argparse.Namespace, classes: Sequence[str]) -> dict[str, Space]:
    """The judges' spaces by name. Raises InputError for an encoder that sees no pictures."""
    from ..study.scores import clip_space, encoder_space

    if options.wav2clip is not None and options.clip is None:
        raise InputError("Wav2CLIP measures beside a CLIP: give --clip as well, or leave --wav2clip out.")
    spaces = {}
    if options.clip:
        spaces[options.clip.name] = clip_space(options.clip, options.wav2clip)
    if options.encoder or not spaces:
        encoder = load_encoder(options.encoder).to(device_of(options.device))
        if not encoder.sees:
            raise InputError(
                f"The encoder {encoder.name} sees no pictures, so it cannot judge them: give one that does, "
                "or --clip."
            )
        spaces[encoder.name] = encoder_space(encoder, classes)
    return spaces
