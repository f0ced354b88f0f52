"""The parts of `python -m aai.soundworld.evaluate`: each measures, and notes its figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ...adapt.settings import TrainSettings
from ...audio import Sound
from ...audio import load as load_sound
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...encoders.loaders import load
from ...inject.timeline import timeline
from ...inject.windows import embed_windows
from ...metrics import Share
from ...picture.model import PictureModel
from ...token import SoundToken
from ..library import references
from ..loaders import load_adapter, load_events_oracle, load_oracle, load_picture_model, load_sound_encoder
from ..oracle import Oracle
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
from .measure import SERIES, ablations, loudness, make_token, tokens
from .words import words

Note = Callable[[str, Share | float], None]


@dataclass(frozen=True)
class Run:
    """What the parts share, each made when a part first asks for it. `note` keeps a figure under its name."""

    arguments: argparse.Namespace
    note: Note

    def noted(self, prefix: str, figures: Iterable[tuple[str, Share | float]]) -> None:
        for what, value in figures:
            self.note(f"{prefix}, {what}", value)

    @cached_property
    def encoder(self) -> CAVMAEEncoder:
        return load_sound_encoder()

    @property
    def has_left_out(self) -> bool:
        """Whether recordings can be judged by encoders that have not heard them."""
        return bool(self.arguments.recordings and self.arguments.left_out)

    def without(self, fold: int) -> CAVMAEEncoder:
        """The encoder that has not heard a fold."""
        return load(self.arguments.left_out / f"without_fold_{fold}.safetensors")

    @cached_property
    def model(self) -> PictureModel:
        return load_picture_model(model=self.arguments.model)

    @cached_property
    def oracle(self) -> Oracle:
        return load_oracle()

    @property
    def settings(self) -> TrainSettings:
        return TrainSettings(steps=self.arguments.steps, rho=self.arguments.rho, norm=self.arguments.norm)

    @property
    def seeds(self) -> range:
        return range(self.arguments.seeds)

    @cached_property
    def sounds(self) -> dict[str, Sound]:
        """The unseen sound of every event of which tokens are made."""
        return {event: unseen_sound(event, 500 + i) for i, event in enumerate(EVENTS)}

    @cached_property
    def edit_tokens(self) -> dict[str, SoundToken]:
        made = {}
        for event in edits.EDITED:
            sound = unseen_sound(event, 500 + EVENTS.index(event), edits.INTENSITY)
            f_a = self.encoder.embed([sound])[0]
            pictures = references(f_a, self.encoder)[0]
            made[event] = make_token(self.model, f_a, pictures, self.settings, "sound")
        return made


def measure_hearing(run: Run) -> None:
    run.note("hear, synthesized", name_synthetic(run.encoder))
    run.note("hear, calibration error", calibration(run.encoder))
    louder = ("the louder", "the louder, 6 dB and more", "both in three words")
    run.noted("hear", ((f"mixtures: {what}", share) for what, share in zip(louder, mixtures(run.encoder))))
    area, told = synthesized_strangers(run.encoder)
    run.note("known, synthesized: AUROC", area)
    run.note("known, synthesized: strangers told", told)
    recordings = run.arguments.recordings
    if recordings:
        # The shipped encoder has heard the world's recordings; it has heard none of the others.
        heard = strangers(dict.fromkeys(FOLDS, run.encoder), recordings)
        note_strangers(run, "recordings, shipped encoder", heard)
    if not run.has_left_out:
        return
    left_out = {fold: run.without(fold) for fold in FOLDS}
    for seconds in (None, *WINDOWS):
        shares = [
            name_recordings(encoder, recordings_of(recordings, fold), seconds)
            for fold, encoder in left_out.items()
        ]
        what = f"windows of {seconds:g} s" if seconds else "recordings"
        for fold, share in zip(left_out, shares):
            run.note(f"hear, {what} of fold {fold}", share)
        run.note(f"hear, {what}, mean of folds", float(np.mean([share.value for share in shares])))
    note_strangers(run, "recordings", strangers(left_out, recordings))


def note_strangers(run: Run, what: str, figures: tuple[float, tuple[float, float], Share, Share]) -> None:
    area, (low, high), refused, told = figures
    run.note(f"known, {what}: AUROC", area)
    run.note(f"known, {what}: AUROC from", low)
    run.note(f"known, {what}: AUROC to", high)
    run.note(f"known, {what}: known ones refused", refused)
    run.note(f"known, {what}: strangers told", told)


def measure_apart(run: Run) -> None:
    encoder, how = run.encoder, "shipped"
    if run.arguments.without_presence:
        # One of its own: the other parts' has it.
        encoder, how = load_sound_encoder(), "by the splits' words"
        encoder.presence = None
    for what, value in taken_apart(encoder).items():
        run.note(f"apart, {how}: {what}", value)


def measure_both(run: Run) -> None:
    run.noted("both", both(run.model, load_events_oracle(), run.encoder, load_adapter(run.model)))


def measure_captions(run: Run) -> None:
    run.noted("captions", captions(run.model, run.oracle, range(4)).items())


def measure_tokens(run: Run) -> None:
    share = tokens(run.model, run.oracle, run.encoder, run.sounds, run.settings, run.seeds, print)
    run.note("tokens, synthesized sounds", share)
    if run.has_left_out:
        first: dict[str, Path] = {}
        for event, path in recordings_of(run.arguments.recordings, 4):
            first.setdefault(event, path)
        sounds = {event: load_sound(path) for event, path in first.items()}
        share = tokens(run.model, run.oracle, run.without(4), sounds, run.settings, run.seeds, print)
        run.note("tokens, recordings of fold 4", share)


def measure_ablations(run: Run) -> None:
    mates = {event: unseen_sound(event, 600 + i) for i, event in enumerate(EVENTS)}
    shares = ablations(run.model, run.oracle, run.encoder, run.sounds, mates, run.settings, run.seeds)
    for what, share in shares.items():
        run.note(f"ablation {what}", share)


def measure_loudness(run: Run) -> None:
    for name in SERIES:
        rows = loudness(
            run.model, run.oracle, run.encoder, run.arguments.events, run.settings, range(10), name
        )
        for event, value in rows.items():
            run.note(f"loudness, {name}; {event}", value)
        run.note(f"loudness, {name}; mean", float(np.mean(list(rows.values()))))


def measure_instant(run: Run) -> None:
    if run.arguments.fold_4:
        encoder = run.without(4)
        adapter = instant.adapter_of(encoder, run.model, run.arguments.fold_4)
        paths = recordings_of(run.arguments.recordings, 4)
        recordings = [(event, load_sound(path)) for event, path in paths]
        share = instant.named(run.model, run.oracle, encoder, adapter, recordings)
        run.note("instant, at once, recordings of fold 4", share)
        return
    unheard = run.arguments.without
    adapter = instant.adapter_of(run.encoder, run.model, unheard)
    measured = instant.without if unheard else instant.measure
    events = run.arguments.events
    run.noted("instant", measured(run.model, run.oracle, run.encoder, adapter, events, run.sounds, run.seeds))


def measure_edits(run: Run) -> None:
    run.noted("edits", edits.edits(run.model, run.oracle, run.edit_tokens, range(4), print).items())
    run.noted("edits", edits.rendered(run.edit_tokens, range(4)).items())
    run.noted("edits", edits.photographs(run.model, run.oracle, run.edit_tokens).items())


def measure_sweep(run: Run) -> None:
    rows = edits.loudness_sweep(run.model, run.oracle, run.edit_tokens, range(2))
    for what, value in rows.items():
        run.note(f"edits, scale and intensity; {what}", value)


def measure_words(run: Run) -> None:
    if run.arguments.model == "flow":
        run.noted("words", words(run.model, run.oracle, range(2), print).items())


def measure_films(run: Run) -> None:
    arguments = run.arguments
    stories = [films.story(number) for number in range(arguments.stories)]
    lines = [timeline(embed_windows([told.sound], run.encoder), arguments.fps) for told in stories]
    run.noted("film", films.heard(stories, lines).items())
    if arguments.recordings:
        strung_together(run)
    if arguments.films:
        few = slice(arguments.films)
        word_of = partial(load_adapter(run.model).token, name="sound")
        folder = arguments.output.parent
        drawn = films.drawn(run.model, run.oracle, stories[few], lines[few], word_of, print, folder)
        for what, value in drawn.items():
            run.note(what, value)


def strung_together(run: Run) -> None:
    """The figures of fold 4's recordings, one after the other: by the encoder that has not heard them, or by
    the shipped one, which has."""
    arguments, encoder, by = run.arguments, run.encoder, "the shipped encoder, which has heard them"
    if run.has_left_out:
        encoder, by = run.without(4), "an encoder without fold 4"
    recordings = recordings_of(arguments.recordings, 4)
    stories = [films.recorded(recordings, number) for number in range(arguments.stories)]
    lines = [timeline(embed_windows([told.sound], encoder), arguments.fps) for told in stories]
    for what, value in films.heard(stories, lines).items():
        run.note(f"film, recordings of fold 4 by {by}: {what}", value)


PARTS = {
    "hear": measure_hearing,
    "apart": measure_apart,
    "both": measure_both,
    "captions": measure_captions,
    "tokens": measure_tokens,
    "ablations": measure_ablations,
    "loudness": measure_loudness,
    "edits": measure_edits,
    "sweep": measure_sweep,
    "instant": measure_instant,
    "words": measure_words,
    "film": measure_films,
}
