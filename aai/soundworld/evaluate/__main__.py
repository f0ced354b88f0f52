"""`python -m aai.soundworld.evaluate`: every figure of SoundWorld's model card.

- hear: nearest words on unseen synthesized sounds, mixtures of two, and recordings, whole and in windows,
  each fold by the encoder that was trained without it; and which sounds are unknown.
- apart: mixtures of two unseen sounds taken apart, by what tells which words there are and, with
  --without-presence, by the splits' own words.
- both: what is drawn of such a mixture, each of its sounds a word: both in one prompt, or each in its place.
- captions: what is drawn of captions, every event in every scene, and how much of it is the decoder's grid.
- tokens: the oracle's reading of "a photo of *", one token per class.
- ablations: what carries a token, the sound or the references.
- loudness: five levels of one sound, one token a level; Spearman of level and measured intensity. With
  references by each sound, with references held fixed, and with one adapter that takes each sound in turn.
- instant: the shipped adapter's words on the sounds of `tokens`, on 80 others, on windows of 1.5 s, over
  loudness; with --without, of events that an adapter has not heard; with --fold-4, of recordings that an
  adapter's encoder has not heard (`build.adapter --without` and `--encoder` make these two).
- edits: "a city" becomes "a city under *" by eq. 7; and eq. 8's scale from 0 to 2.
- words: with --model flow, a word's weight from 0 to 2, beside "(word:1.5)" in the prompt.
- film: stories of several sounds; the word of each frame, and what a film of it shows. With --recordings,
  those of fold 4 strung together as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ... import files
from ...adapt.settings import NORMS, TrainSettings
from ...metrics import Share
from ..world import EVENTS
from .parts import PARTS, Run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.evaluate", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--recordings", type=Path, help="ESC-10's folder of classes")
    parser.add_argument(
        "--left-out", type=Path, help="the folder of the encoders without_fold_1 to 4, to judge recordings by"
    )
    parser.add_argument(
        "--steps", type=int, default=TrainSettings.steps, help="training steps of a token (%(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=8, help="pictures of a token (%(default)s)")
    parser.add_argument(
        "--events", nargs="+", choices=EVENTS, default=EVENTS, metavar="EVENT", help="loudness of which (all)"
    )
    parser.add_argument("--stories", type=int, default=20, help="film: how many are heard (%(default)s)")
    parser.add_argument(
        "--films", type=int, default=20, help="film: how many of them are drawn (%(default)s)"
    )
    parser.add_argument("--fps", type=float, default=4.0, help="film: frames a second (%(default)g)")
    parser.add_argument(
        "--without", type=Path, help="an adapter trained without --events, to measure what it draws of them"
    )
    parser.add_argument(
        "--fold-4", type=Path, help="an adapter trained for the encoder without fold 4: what it draws of that"
    )
    parser.add_argument("--without-presence", action="store_true", help="apart: as an encoder that has none")
    parser.add_argument(
        "--model", choices=("unet", "flow"), default="unet", help="which picture model (%(default)s)"
    )
    parser.add_argument("--rho", type=float, default=TrainSettings.rho)
    parser.add_argument("--norm", choices=NORMS, default=TrainSettings.norm)
    parser.add_argument("--output", type=Path, default=Path("out/soundworld/figures.json"))
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part '{unknown[0]}': take some of {', '.join(PARTS)}.")
    if arguments.fold_4 and not (arguments.recordings and arguments.left_out):
        parser.error("--fold-4 needs --recordings and --left-out.")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"steps": arguments.steps, "rho": arguments.rho, "seeds": arguments.seeds}
    arguments.events = tuple(event for event in EVENTS if event in arguments.events)
    for name in ("norm", "model", "events", "stories", "films", "fps"):
        chosen |= {name: given} if (given := getattr(arguments, name)) != parser.get_default(name) else {}
    # As a file has them: lists, not tuples.
    chosen = json.loads(json.dumps(chosen))
    figures = {"settings": chosen}
    if arguments.output.exists():
        try:
            figures = files.read_json(arguments.output)
        except files.Unreadable as error:
            parser.error(f"{arguments.output} cannot be read ({error}): take it away, or another --output.")
        kept = figures.get("settings") if isinstance(figures, dict) else None
        if kept != chosen:
            parser.error(
                f"{arguments.output} holds figures of other settings ({kept}, not {chosen}): take another "
                "--output."
            )

    def note(what: str, value: Share | float) -> None:
        figures[what] = (
            {"share": value.value, "hits": value.hits, "count": value.count, "interval": value.interval}
            if isinstance(value, Share)
            else value
        )
        print(f"{what}: {value if isinstance(value, Share) else round(value, 3)}", flush=True)
        files.write(arguments.output, json.dumps(figures, indent=1).encode(), "The figures")

    run = Run(arguments, note)
    for name, part in PARTS.items():
        if name in arguments.parts:
            part(run)


if __name__ == "__main__":
    main()
