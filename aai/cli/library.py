"""`aai library index`, `aai library search`: pictures that a sound sounds like."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import is_file
from .arguments import add_clip_argument, add_encoder_argument, add_force_argument, add_sound_arguments
from .models import embed_sound, load_encoder
from .outputs import check_output, check_picture_file
from .terminal import Commands, positive, print_report, progress

if TYPE_CHECKING:
    from ..library.retrieval import Library, Retrieval
    from ..library.towers import VisualTower


def add(commands: Commands) -> None:
    group = commands.group("library", "make a folder of pictures a library that sounds find references in")
    sub = group.add(
        "index",
        index,
        "see a folder's pictures once; again only what has changed",
        "aai library index my_photos",
    )
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="pictures, in folders below it too")
    sub.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the index, .safetensors (beside the pictures)"
    )
    add_force_argument(sub)
    add_encoder_argument(sub)
    add_clip_argument(sub)
    sub.add_argument(
        "--fast",
        action="store_true",
        help="for some 300,000 pictures and more: FAISS too (pip install faiss-cpu)",
    )

    sub = group.add(
        "search",
        search,
        "show the pictures that a sound is nearest to",
        "aai library search rain.wav my_photos -o found.png",
    )
    sub.add_argument("sound", metavar="SOUND", help="an audio file, or a video with sound")
    sub.add_argument("library", type=Path, metavar="LIBRARY", help="a folder of pictures, or an index file")
    sub.add_argument("-k", type=positive, default=4, help="how many pictures (%(default)s)")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="a contact sheet of them (.png)")
    add_force_argument(sub)
    add_sound_arguments(sub)
    add_clip_argument(sub)


def index(options: argparse.Namespace) -> None:
    from ..library.index import is_ours
    from ..library.towers import tower_of

    if options.output:
        check_output(options.output, "a library", (".safetensors",), is_ours, options.force)
    tower = tower_of(load_encoder(options.encoder), options.clip, "--clip")
    seen, library = open_library(options.folder, tower, options.json, options.output, options.fast)
    report = {
        "file": None if library.file is None else str(library.file),
        "pictures": len(library.names),
        "seen": seen,
        "tower": tower.name,
        "fast": library.fast is not None,
    }
    print_report(
        options, report, f"{library.file}: {len(library.names)} pictures, {seen} of them new or changed"
    )


def search(options: argparse.Namespace) -> None:
    from ..library.index import read
    from ..library.retrieval import clip_of, retrieve
    from ..library.towers import tower_of

    if options.output:
        check_picture_file(options.output, options.force)
    encoder = load_encoder(options.encoder)
    embedding = embed_sound(options, encoder)
    tower = tower_of(encoder, options.clip, "--clip")
    if options.library.suffix == ".safetensors":
        if not is_file(options.library):
            raise InputError(f"There is no index '{options.library}': make one with `aai library index`.")
        library = read(options.library, tower)
    else:
        _, library = open_library(options.library, tower, options.json)
    retrieval = retrieve(embedding.f_a, library, options.k, clip_of(embedding.sound))
    print_left_out(retrieval)
    nearest = retrieval.references
    names = [r.path.relative_to(library.folder).as_posix() for r in nearest]
    if options.output:
        _write_sheet(options.output, embedding.sound, nearest, names)
    report = {
        "sound": options.sound,
        "pictures": [
            {"file": str(r.path), "name": name, "score": round(r.score, 4)} for r, name in zip(nearest, names)
        ],
        "left_out": retrieval.left_out,
    }
    print_report(options, report, "\n".join(f"{r.score:.3f}  {r.path}" for r in nearest))


def print_left_out(retrieval: Retrieval) -> None:
    """Says which pictures were left out as the sound's own clip, if any were."""
    if retrieval.note:
        print(retrieval.note, file=sys.stderr)


def open_library(
    folder: Path, tower: VisualTower, quiet: bool, file: Path | None = None, fast: bool = False
) -> tuple[int, Library]:
    """How many pictures had to be embedded, behind a bar, and the folder's library."""
    from ..library.index import index, scan

    embedded = 0
    with progress("seeing pictures", len(scan(folder)), quiet) as tick:

        def count(done: int, total: int) -> None:
            nonlocal embedded
            embedded = done
            tick(done)

        library = index(folder, tower, file, fast=fast, callback=count)
    return embedded, library


def _write_sheet(output: Path, sound: str, nearest: list, names: list[str]) -> None:
    from .. import image
    from ..charts import Cell, Row, contact_sheet

    cells = [Cell([image.load(r.path, 192)], f"{r.score:.3f}  {name}") for r, name in zip(nearest, names)]
    image.save(contact_sheet(sound, "the pictures that it is nearest to", [Row("", cells)], side=192), output)
