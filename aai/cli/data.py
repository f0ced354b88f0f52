"""`aai data prepare`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .arguments import add_device_argument
from .models import device_of
from .outputs import check_folder
from .terminal import Commands, finite, positive, print_report, progress_bar, say

SHARD = 256


def add(commands: Commands) -> None:
    group = commands.group("data", "make datasets of sounds, pictures and labels")
    sub = group.add(
        "prepare",
        prepare,
        "make a dataset of videos, or of sounds and frames, to align an encoder with",
        "aai data prepare videos --csv vggsound.csv --clip openai/clip-vit-base-patch32 -o vggsound",
    )
    sub.add_argument("source", type=Path, metavar="SOURCE", help="the folder of videos, sounds and frames")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the dataset's folder")
    sub.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="VGGSound's list, or any csv with the columns id, start, end, label, split (the only csv in "
        "SOURCE; without one, SOURCE's subfolders are the classes)",
    )
    sub.add_argument(
        "--labels", type=Path, metavar="FILE", help="the labels that may come, one a line; others are listed"
    )
    sub.add_argument(
        "--clip",
        default="",
        metavar="NAME",
        help="a CLIP's folder or hub name: it keeps the frames nearest to the label (without: evenly spaced)",
    )
    sub.add_argument(
        "--frames", type=positive, default=20, metavar="N", help="frames to look at (%(default)s)"
    )
    sub.add_argument("--keep", type=positive, default=10, metavar="N", help="frames to keep (%(default)s)")
    sub.add_argument(
        "--size", type=positive, default=256, metavar="PX", help="a frame's shorter side (%(default)s)"
    )
    sub.add_argument(
        "--seconds", type=finite, default=10.0, metavar="S", help="how much of a sound (%(default)g)"
    )
    sub.add_argument(
        "--rate", type=positive, default=16000, metavar="HZ", help="the sounds' rate (%(default)s)"
    )
    sub.add_argument("--wav", action="store_true", help="write sounds as wav, not flac")
    sub.add_argument(
        "--shards",
        type=positive,
        nargs="?",
        const=SHARD,
        default=0,
        metavar="N",
        help=f"write WebDataset tar files of N clips ({SHARD}), not folders",
    )
    sub.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes, each with a CLIP of its own (%(default)s)",
    )
    # Every process has a CLIP of its own, and all together may not fit a GPU.
    add_device_argument(sub, "the CLIP", "cpu")
    sub.add_argument("--retry", action="store_true", help="try once more what was bad in an earlier run")


def prepare(options: argparse.Namespace) -> None:
    from ..data.clip_writer import PrepareSettings
    from ..data.prepare import BAD
    from ..data.prepare import prepare as prepare_data

    check_folder(options.output)
    settings = PrepareSettings(
        rate=options.rate,
        seconds=options.seconds,
        frames=options.frames,
        keep=options.keep,
        size=options.size,
        sound="wav" if options.wav else "flac",
        clip=options.clip,
        shard=options.shards,
    )
    if not options.clip:
        say(options)(f"No --clip: {options.keep} evenly spaced frames of {options.frames} are kept.")
    with progress_bar("preparing", None, options.json) as bar:

        def tick(done: int, total: int, bad: int) -> None:
            bar.total = total
            bar.set_description(f"preparing ({bad} bad)", refresh=False)
            bar.update(done - bar.n)

        prepared = prepare_data(
            options.source,
            options.output,
            settings,
            options.csv,
            options.labels,
            options.workers,
            options.retry,
            str(device_of(options.device)),
            tick,
        )
    report = {
        "folder": str(options.output),
        "clips": prepared.clips,
        "labels": prepared.labels,
        "bad": [dict(zip(("id", "label", "reason"), row)) for row in prepared.bad],
    }
    lines = [f"{options.output}: {prepared.clips} clips of {len(prepared.labels)} labels"]
    single = [label for label, count in prepared.labels.items() if count == 1]
    if single:
        named = ", ".join(single[:3])
        lines.append(f"{len(single)} labels have a single clip ({named}): none of it can be held out")
    if prepared.bad:
        id, _, reason = prepared.bad[0]
        lines.append(f"{len(prepared.bad)} bad, listed in {options.output / BAD} (the first: {id}: {reason})")
    print_report(options, report, "\n".join(lines))
