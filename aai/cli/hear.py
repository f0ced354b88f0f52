"""`aai hear`."""

from __future__ import annotations

import argparse
import json

from .inputs import about_sound, load_encoder
from .terminal import Commands, positive


def add(commands: Commands) -> None:
    sub = commands.add("hear", hear, "say what sounds are, in words", "aai hear rain.wav dog.mp3")
    sub.add_argument("files", nargs="+", metavar="FILE", help="audio files, or videos with sound")
    sub.add_argument(
        "--words", type=positive, default=3, metavar="N", help="how many words for each (%(default)s)"
    )
    about_sound(sub)


def hear(options: argparse.Namespace) -> None:
    from .. import audio
    from ..encoders.base import encode_sound as hear_sound
    from ..encoders.base import nearest_words

    encoder = load_encoder(options.encoder)
    rows = []
    for path in options.files:
        heard = hear_sound(encoder, audio.load(path, options.start, options.length), str(path))
        (words,) = nearest_words(encoder, heard.f_a[None], options.words)
        rows.append(
            {
                "file": str(path),
                "lufs": round(heard.loudness, 2),
                "words": [{"word": word, "score": round(score, 4)} for word, score in words],
            }
        )
        if not options.json:
            shown = ", ".join(f"{word} {score:.0%}" for word, score in words)
            print(f"{path}  ({heard.loudness:.1f} LUFS): {shown or 'no words, not aligned yet'}")
    if options.json:
        print(json.dumps(rows, indent=1))
