"""`aai hear`."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import InputError, encodable
from .inputs import about_sound, load_encoder
from .terminal import Commands, positive


def add(commands: Commands) -> None:
    sub = commands.add("hear", hear, "say what sounds are, in words", "aai hear rain.wav dog.mp3")
    sub.add_argument("files", nargs="+", metavar="FILE", help="audio files, or videos with sound")
    sub.add_argument(
        "--words", type=positive, default=3, metavar="N", help="how many words for each (%(default)s)"
    )
    about_sound(sub)


def hear(options: argparse.Namespace) -> int:
    from .. import audio
    from ..encoders.base import encode_sound as hear_sound
    from ..encoders.base import nearest_words

    encoder = load_encoder(options.encoder)
    rows, failed = [], False
    for path in options.files:
        name = encodable(path)
        try:
            heard = hear_sound(encoder, audio.load(path, options.start, options.length), name)
        except InputError as error:
            print(f"aai: {error}", file=sys.stderr)
            rows.append({"file": name, "error": str(error)})
            failed = True
            continue
        (words,) = nearest_words(encoder, heard.f_a[None], options.words)
        rows.append(
            {
                "file": name,
                "lufs": round(heard.loudness, 2),
                "words": [{"word": word, "score": round(score, 4)} for word, score in words],
            }
        )
        if not options.json:
            shown = ", ".join(f"{word} {score:.0%}" for word, score in words)
            print(f"{name}  ({heard.loudness:.1f} LUFS): {shown or 'no words, not aligned yet'}")
    if options.json:
        print(json.dumps(rows, indent=1))
    return 2 if failed else 0
