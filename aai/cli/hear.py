"""`aai hear`."""

from __future__ import annotations

import argparse
import sys

from ..errors import InputError, encodable
from .arguments import add_sound_arguments
from .models import load_encoder
from .terminal import Commands, positive, print_report, write


def add(commands: Commands) -> None:
    sub = commands.add("hear", hear, "say what sounds are, in words", "aai hear rain.wav dog.mp3")
    sub.add_argument("files", nargs="+", metavar="FILE", help="audio files, or videos with sound")
    sub.add_argument(
        "--words", type=positive, default=3, metavar="N", help="how many words for each (%(default)s)"
    )
    sub.add_argument(
        "--sounds",
        type=int,
        choices=(1, 2, 3),
        default=1,
        metavar="N",
        help="tell up to so many sounds of a recording apart, 2 or 3 (%(default)s)",
    )
    add_sound_arguments(sub)


def hear(options: argparse.Namespace) -> int:
    from .. import audio
    from ..encoders.apart import take_apart
    from ..encoders.base import encode_sound, nearest_words

    encoder = load_encoder(options.encoder)
    rows, failed = [], False
    for path in options.files:
        name = encodable(path)
        try:
            sound = audio.load(path, options.start or 0.0, options.length)
            embedding = encode_sound(encoder, sound, name)
            parts = take_apart(encoder, sound, options.sounds, name) if options.sounds > 1 else []
        except InputError as error:
            print(f"aai: {error}", file=sys.stderr)
            rows.append({"file": name, "error": str(error)})
            failed = True
            continue
        (near,) = nearest_words(encoder, embedding.f_a[None], options.words)
        rows.append(
            {
                "file": name,
                "lufs": round(embedding.loudness, 2),
                "words": [{"word": word, "score": round(score, 4)} for word, score in near.words],
                "known": embedding.is_known,
                "unknown": None if near.unknown is None else round(near.unknown, 4),
            }
        )
        if options.sounds > 1:
            rows[-1]["sounds"] = [
                {
                    "word": part.word,
                    "probability": round(part.probability, 4),
                    "lufs": round(part.embedding.loudness, 2),
                    "share": round(part.share, 4),
                }
                for part in parts
            ]
        if not options.json:
            shown = ", ".join(f"{word} {score:.0%}" for word, score in near.with_unknown())
            stranger = " (outside of what this encoder knows)" if embedding.is_known is False else ""
            loudness = f"{embedding.loudness:.1f} LUFS"
            write(f"{name}  ({loudness}): {shown or 'no words, not aligned yet'}{stranger}")
            for part in parts:
                write(f"    {part.word}: {part.embedding.loudness:.1f} LUFS, {part.share:.0%} of the sound")
    if options.json:
        print_report(options, rows, "")
    return 2 if failed else 0
