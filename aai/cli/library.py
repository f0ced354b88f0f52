"""`aai library index`, `aai library search`: pictures that a sound sounds like."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..files import is_file
from .inputs import (
    SOUNDWORLD,
    about_clip,
    about_force,
    about_sound,
    check_output,
    check_picture_file,
    load_encoder,
    open_library,
    tell_left_out,
)
from .terminal import Commands, positive, tell


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
    about_force(sub)
    sub.add_argument(
        "--encoder", default=SOUNDWORLD, metavar="FILE", help="a sound encoder's file (%(default)s)"
    )
    about_clip(sub)
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
    about_force(sub)
    about_sound(sub)
    about_clip(sub)


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
    tell(options, report, f"{library.file}: {len(library.names)} pictures, {seen} of them new or changed")


def search(options: argparse.Namespace) -> None:
    from .. import audio
    from ..encoders.base import encode_sound
    from ..library.index import read
    from ..library.retrieval import clip_of, retrieve
    from ..library.towers import tower_of

    if options.output:
        check_picture_file(options.output, options.force)
    encoder = load_encoder(options.encoder)
    heard = encode_sound(
        encoder, audio.load(options.sound, options.start, options.length), Path(options.sound).name
    )
    tower = tower_of(encoder, options.clip, "--clip")
    if options.library.suffix == ".safetensors":
        if not is_file(options.library):
            raise InputError(f"There is no index '{options.library}': make one with `aai library index`.")
        library = read(options.library, tower)
    else:
        _, library = open_library(options.library, tower, options.json)
    retrieval = retrieve(heard.f_a, library, options.k, clip_of(heard.sound))
    tell_left_out(retrieval)
    found = retrieval.references
    names = [r.path.relative_to(library.folder).as_posix() for r in found]
    if options.output:
        _sheet(options.output, heard.sound, found, names)
    report = {
        "sound": options.sound,
        "pictures": [
            {"file": str(r.path), "name": name, "score": round(r.score, 4)} for r, name in zip(found, names)
        ],
        "left_out": retrieval.left_out,
    }
    tell(options, report, "\n".join(f"{r.score:.3f}  {r.path}" for r in found))


def _sheet(output: Path, sound: str, found: list, names: list[str]) -> None:
    from .. import image
    from ..charts import Cell, Row, contact_sheet

    cells = [Cell([image.load(r.path, 192)], f"{r.score:.3f}  {name}") for r, name in zip(found, names)]
    image.save(contact_sheet(sound, "the pictures that it is nearest to", [Row("", cells)], side=192), output)
