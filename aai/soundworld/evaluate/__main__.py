"""`python -m aai.soundworld.evaluate`: every figure of SoundWorld's model card.

- hear: nearest words on unseen synthesized sounds, mixtures of two, and recordings, whole and in windows,
  each fold by the encoder that was trained without it; and which sounds are unknown.
- apart: mixtures of two unseen sounds taken apart, by what tells which words there are and, with
  --without-presence, by the splits' own words.
- both: what is drawn of such a mixture, each of its sounds a word in one prompt.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ...adapt.settings import NORMS, TrainSettings
from ...audio import load as load_sound
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...encoders.loaders import load
from ...inject.timeline import timeline
from ...inject.windows import embed_windows
from ...metrics import Share
from ..library import references
from ..loaders import load_adapter, load_events_oracle, load_oracle, load_picture_model, load_sound_encoder
from ..sounds import unseen_sound
from ..world import EVENTS, FOLDS
from . import edits, films, instant
from .both import both
from .captions import captions
from .hearing import (
    WINDOWS,
    calibration,
    mixtures,
    name_recordings,
    name_synthetic,
    recordings_of,
    strangers,
    synthesized_strangers,
    taken_apart,
)
from .measure import PARTS, SERIES, ablations, loudness, make_token, tokens
from .words import words


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
    encoder = load_sound_encoder()
    real = arguments.recordings and arguments.left_out
    left_out = (
        {fold: load(arguments.left_out / f"without_fold_{fold}.safetensors") for fold in FOLDS}
        if real
        else {}
    )
    if arguments.fold_4 and not real:
        parser.error("--fold-4 needs --recordings and --left-out.")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"steps": arguments.steps, "rho": arguments.rho, "seeds": arguments.seeds}
    for name, usual in (("norm", TrainSettings.norm), ("model", "unet")):
        chosen |= {name: given} if (given := getattr(arguments, name)) != usual else {}
    figures = (
        json.loads(arguments.output.read_text(encoding="utf-8"))
        if arguments.output.exists()
        else {"settings": chosen}
    )
    if figures.get("settings") != chosen:
        parser.error(
            f"{arguments.output} holds figures of other settings ({figures.get('settings')}): take "
            "another --output."
        )

    def note(what: str, value: Share | float) -> None:
        figures[what] = (
            {"share": value.value, "hits": value.hits, "count": value.count, "interval": value.interval}
            if isinstance(value, Share)
            else value
        )
        print(f"{what}: {value if isinstance(value, Share) else round(value, 3)}", flush=True)
        arguments.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")

    if "apart" in arguments.parts:
        if arguments.without_presence:
            encoder.presence = None
        how = "by the splits' words" if arguments.without_presence else "shipped"
        for what, value in taken_apart(encoder).items():
            note(f"apart, {how}: {what}", value)
    if "hear" in arguments.parts:
        hear(encoder, left_out, arguments.recordings, note)
    if set(arguments.parts) - {"hear", "apart"}:
        model, oracle = load_picture_model(model=arguments.model), load_oracle()
        settings = TrainSettings(steps=arguments.steps, rho=arguments.rho, norm=arguments.norm)
        seeds = range(arguments.seeds)
    sounds = {e: unseen_sound(e, 500 + i) for i, e in enumerate(EVENTS)}
    if "captions" in arguments.parts:
        for what, value in captions(model, oracle, range(4)).items():
            note(f"captions, {what}", value)
    if "tokens" in arguments.parts:
        note(
            "tokens, synthesized sounds",
            tokens(model, oracle, encoder, sounds, settings, seeds, print),
        )
        if real:
            recorded: dict[str, Path] = {}
            for event, path in recordings_of(arguments.recordings, 4):
                recorded.setdefault(event, path)
            recordings = {event: load_sound(path) for event, path in recorded.items()}
            share = tokens(model, oracle, left_out[4], recordings, settings, seeds, print)
            note("tokens, recordings of fold 4", share)
    if "ablations" in arguments.parts:
        mates = {e: unseen_sound(e, 600 + i) for i, e in enumerate(EVENTS)}
        for what, share in ablations(model, oracle, encoder, sounds, mates, settings, seeds).items():
            note(f"ablation {what}", share)
    if "loudness" in arguments.parts:
        for name in SERIES:
            rows = loudness(model, oracle, encoder, arguments.events, settings, range(10), name)
            for event, value in rows.items():
                note(f"loudness, {name}; {event}", value)
            note(f"loudness, {name}; mean", float(np.mean(list(rows.values()))))
    if "instant" in arguments.parts and arguments.fold_4:
        adapter = instant.adapter_of(left_out[4], model, arguments.fold_4)
        recordings = [(e, load_sound(path)) for e, path in recordings_of(arguments.recordings, 4)]
        share = instant.named(model, oracle, left_out[4], adapter, recordings)
        note("instant, at once, recordings of fold 4", share)
    elif "instant" in arguments.parts:
        adapter = instant.adapter_of(encoder, model, arguments.without)
        measured = instant.without if arguments.without else instant.measure
        for what, value in measured(model, oracle, encoder, adapter, arguments.events, sounds, seeds):
            note(f"instant, {what}", value)
    if {"edits", "sweep"} & set(arguments.parts):
        edit_tokens = {}
        for event in edits.EDITED:
            sound = unseen_sound(event, 500 + EVENTS.index(event), edits.INTENSITY)
            f_a = encoder.embed([sound])[0]
            edit_tokens[event] = make_token(model, f_a, references(f_a, encoder)[0], settings, "sound")
    if "words" in arguments.parts and arguments.model == "flow":
        for what, value in words(model, oracle, range(2), print).items():
            note(f"words, {what}", value)
    if "film" in arguments.parts:
        stories = [films.story(number) for number in range(arguments.stories)]
        lines = [timeline(embed_windows([told.sound], encoder), arguments.fps) for told in stories]
        for what, value in films.heard(stories, lines).items():
            note(f"film, {what}", value)
        if arguments.recordings:
            strung_together(left_out.get(4, encoder), 4 in left_out, arguments, note)
        if arguments.films:
            few = slice(arguments.films)
            word_of, folder = partial(load_adapter(model).token, name="sound"), arguments.output.parent
            drawn = films.drawn(model, oracle, stories[few], lines[few], word_of, print, folder)
            for what, value in drawn.items():
                note(what, value)
    if "both" in arguments.parts:
        for what, value in both(model, load_events_oracle(), encoder, load_adapter(model)):
            note(f"both, {what}", value)
    if "edits" in arguments.parts:
        for what, value in edits.edits(model, oracle, edit_tokens, range(4), print).items():
            note(f"edits, {what}", value)
        for what, value in edits.rendered(edit_tokens, range(4)).items():
            note(f"edits, {what}", value)
        for what, value in edits.photographs(model, oracle, edit_tokens).items():
            note(f"edits, {what}", value)
    if "sweep" in arguments.parts:
        for what, value in edits.loudness_sweep(model, oracle, edit_tokens, range(2)).items():
            note(f"edits, scale and intensity; {what}", value)


def hear(
    encoder: CAVMAEEncoder,
    left_out: dict[int, CAVMAEEncoder],
    recordings: Path | None,
    note: Callable[[str, Share | float], None],
) -> None:
    """The figures of the part "hear"."""
    note("hear, synthesized", name_synthetic(encoder))
    note("hear, calibration error", calibration(encoder))
    for what, share in zip(
        ("the louder", "the louder, 6 dB and more", "both in three words"), mixtures(encoder)
    ):
        note(f"hear, mixtures: {what}", share)
    area, told = synthesized_strangers(encoder)
    note("known, synthesized: AUROC", area)
    note("known, synthesized: strangers told", told)
    if recordings:
        # The shipped encoder has heard the world's recordings; it has heard none of the others.
        heard = strangers(dict.fromkeys(FOLDS, encoder), recordings)
        note_strangers("recordings, shipped encoder", heard, note)
    if not left_out:
        return
    for seconds in (None, *WINDOWS):
        shares = [
            name_recordings(encoder, recordings_of(recordings, fold), seconds)
            for fold, encoder in left_out.items()
        ]
        what = f"windows of {seconds:g} s" if seconds else "recordings"
        for fold, share in zip(left_out, shares):
            note(f"hear, {what} of fold {fold}", share)
        note(f"hear, {what}, mean of folds", float(np.mean([share.value for share in shares])))
    note_strangers("recordings", strangers(left_out, recordings), note)


def strung_together(
    encoder: CAVMAEEncoder,
    unheard: bool,
    arguments: argparse.Namespace,
    note: Callable[[str, Share | float], None],
) -> None:
    """The figures of fold 4's recordings, one after the other: by the encoder that has not heard them, or by
    the shipped one, which has."""
    recordings = recordings_of(arguments.recordings, 4)
    stories = [films.recorded(recordings, number) for number in range(arguments.stories)]
    lines = [timeline(embed_windows([told.sound], encoder), arguments.fps) for told in stories]
    by = "an encoder without fold 4" if unheard else "the shipped encoder, which has heard them"
    for what, value in films.heard(stories, lines).items():
        note(f"film, recordings of fold 4 by {by}: {what}", value)


def note_strangers(
    what: str,
    figures: tuple[float, tuple[float, float], Share, Share],
    note: Callable[[str, Share | float], None],
) -> None:
    area, (low, high), refused, told = figures
    note(f"known, {what}: AUROC", area)
    note(f"known, {what}: AUROC from", low)
    note(f"known, {what}: AUROC to", high)
    note(f"known, {what}: known ones refused", refused)
    note(f"known, {what}: strangers told", told)


if __name__ == "__main__":
    main()
