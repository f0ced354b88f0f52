"""The build of SoundWorld's sound encoder: what it is trained on, and its trainings in order.

First on synthesized sounds, and on recordings of Debian's packages where they are given, of the world's
events and of other kinds; then on ESC-10's recordings of folds 1 to 4 too. Four more trainings each leave one
of these folds out: they measure what the shipped one, which is the mean of all five, can do, and set its
threshold.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...align.calibrate import REFUSED
from ...audio import SILENCE_LUFS, Sound, load, loudness
from ...encoders.cavmae import CAVMAE
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...encoders.loaders import save
from ...errors import InputError
from .. import esc10
from ..captions import LEVELS, level
from ..outside import KINDS, synthesize_outside
from ..pictures import Scenes
from ..sounds import synthesize
from ..text import CaptionEncoder
from ..world import EVENTS, FOLDS
from .clips import OUTSIDE, Clip, Mixer, energies_of
from .hearing import Ears, Targets, train_ears
from .kept import kept
from .sound_encoder import CONFIG, TRAIN_SEED, as_encoder, level_vectors, train_visual

SYNTHESIZED, SYNTHESIZED_OUTSIDE, SECONDS = 4000, 1400, 6.0
PICTURES = 2600
TAUS = (0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06)
UNHEARD, SYNTHESIZED_TO_CALIBRATE = TRAIN_SEED + 500_000, 20
MADE_BY = "python -m aai.soundworld.build"


@dataclass(frozen=True)
class Round:
    """A training's steps, its rate, the patches encoded of each sound (fewest and most), and the share of
    recordings among sounds of which there are some."""

    steps: int
    rate: float
    patches: tuple[int, int]
    recorded: float = 0.5


@dataclass(frozen=True)
class Calibration:
    """The probability below which a sound is unknown, and the temperature of words' scores."""

    threshold: float = 0.5
    tau: float = 0.05


PRETRAINING = Round(5500, 1e-3, (24, 48))
TUNING = Round(800, 6e-4, (32, 192), recorded=0.6)


@dataclass(frozen=True)
class Sources:
    """Folders of recordings, each of which may be missing: ESC-10's folders of classes, and what `debian.py`
    brings."""

    recordings: Path | None = None
    debian: Path | None = None


def synthesized(count: int = SYNTHESIZED, outside: int = SYNTHESIZED_OUTSIDE) -> list[Clip]:
    """Synthesized sounds, every event in turn at random intensities, and every kind of no word."""
    clips, kinds = [], list(KINDS)
    for i in range(count):
        intensity = float(np.random.default_rng([TRAIN_SEED, i]).uniform(0.05, 1))
        number = i % len(EVENTS)
        sound = synthesize(EVENTS[number], intensity, TRAIN_SEED + i, SECONDS)
        clips.append(Clip(energies_of(sound), number, loudness(sound), "synthesized"))
    for i in range(outside):
        kind = kinds[i % len(kinds)]
        sound = synthesize_outside(kind, TRAIN_SEED + i, seconds=SECONDS)
        clips.append(Clip(energies_of(sound), OUTSIDE, loudness(sound), kind))
    return clips


def recorded(recordings: Path, folds: tuple[int, ...]) -> list[Clip]:
    """ESC-10's recordings of SoundWorld's classes in the given folds.

    Raises InputError where there are none.
    """
    clips = []
    for event, path in esc10.recordings(recordings, folds):
        sound = load(path)
        clips.append(Clip(energies_of(sound), EVENTS.index(event), loudness(sound), event))
    if not clips:
        raise InputError(
            f"'{recordings}' holds no recordings of folds {folds}: give ESC-10's folder, or leave it out."
        )
    return clips


def of_packages(folder: Path) -> list[Clip]:
    """The recordings that `debian.py` brought: SoundWorld's events, and others by package and kind.

    Silent ones are left out. Raises InputError for a folder without their list.
    """
    try:
        rows = list(csv.DictReader((folder / "recordings.csv").open(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"'{folder}' holds no recordings of Debian's packages: bring them with "
            "`python -m aai.soundworld.build.debian`."
        ) from error
    clips = []
    for row in rows:
        sound = load(folder / row["path"])
        known = row["kind"] in EVENTS
        number = EVENTS.index(row["kind"]) if known else OUTSIDE
        if (level_ := loudness(sound)) > SILENCE_LUFS:
            group = row["kind"] if known else f"{row['package']}, {row['kind']}"
            clips.append(Clip(energies_of(sound), number, level_, group))
    return clips


class SoundEncoderBuild:
    """The sound encoder's parts, each made once and kept in `work`."""

    def __init__(
        self,
        work: Path,
        sources: Sources,
        captions: CaptionEncoder,
        scenes: Scenes,
        pictures: Tensor,
        seed: int,
        report: Callable[..., Callable],
    ):
        self.work, self.sources, self.captions, self.seed = work, sources, captions, seed
        self.scenes, self.pictures, self.report = scenes, pictures, report

    def untrained(self) -> CAVMAE:
        """The model whose visual tower is trained and whose audio branch is not."""

        def make() -> dict[str, Tensor]:
            torch.manual_seed(self.seed)
            model = CAVMAE(CONFIG)
            report = self.report("visual")
            train_visual(model, self.captions, self.scenes, self.pictures, seed=self.seed, report=report)
            return model.state_dict()

        model = CAVMAE(CONFIG)
        model.load_state_dict(kept(self.work, "visual", make))
        return model

    def targets(self) -> Targets:
        def make() -> dict[str, Tensor]:
            encoder = as_encoder(self.untrained(), self.captions)
            pictures = self.pictures[:PICTURES].split(500)
            visual = torch.cat([encoder.embed_images(part.float() / 255) for part in pictures])
            labels = [
                -1 if event is None else EVENTS.index(event) * len(LEVELS) + level(intensity)
                for event, intensity in zip(self.scenes.event[:PICTURES], self.scenes.intensity)
            ]
            shown = torch.tensor(labels) >= 0
            text = level_vectors(self.captions).flatten(0, 1).detach()
            return {
                "text": text,
                "visual": visual[shown],
                "visual_labels": torch.tensor(labels)[shown],
            }

        return Targets(**kept(self.work, "targets", make))

    def mixer(self, folds: tuple[int, ...], share: float) -> Mixer:
        """The sounds of a training, `share` of them recordings where there are some."""

        def clips(name: str, make: Callable[[], list[Clip]]) -> list[Clip]:
            rows = kept(self.work, name, lambda: [clip.row() for clip in make()])
            return [Clip(*row) for row in rows]

        sources, real = self.sources, []
        if sources.debian:
            real += clips("clips_of_packages", lambda: of_packages(sources.debian))
        if folds:
            real += recorded(sources.recordings, folds)
        return Mixer(clips("clips_synthesized", synthesized), real, share=share)

    def trained(self, name: str, folds: tuple[int, ...], round_: Round, start: str | None) -> Ears:
        """The ears after a round; `start` names the round before."""

        def make() -> dict[str, Tensor]:
            torch.manual_seed(self.seed)
            ears = Ears(self.untrained())
            if start:
                ears.load_state_dict(kept(self.work, start, dict))
            report = self.report(name)
            trained = train_ears(
                ears,
                self.mixer(folds, round_.recorded),
                self.targets(),
                round_.steps,
                round_.rate,
                patches=round_.patches,
                seed=self.seed,
                state=self.work / f"{name}.state",
                callback=lambda step, figures: report(step, figures),
            )
            return trained.state_dict()

        ears = Ears(CAVMAE(CONFIG))
        ears.load_state_dict(kept(self.work, name, make))
        return ears

    def tuned(self, folds: tuple[int, ...]) -> Ears:
        """The ears tuned on the recordings of folds; without recordings, as they are before that."""
        before = self.trained("ears", (), PRETRAINING, None)
        if not self.sources.recordings:
            return before
        name = "ears_" + "".join(map(str, folds))
        return self.trained(name, folds, TUNING, "ears")

    def without(self, fold: int) -> Ears:
        """The ears that have not heard one fold."""
        return self.tuned(tuple(other for other in FOLDS if other != fold))

    def mean(self) -> Ears:
        """The mean of the ears that have heard every fold and of those that each have not heard one: all
        began as one, so that their mean is a model too, and a better one (model soups, Wortsman et al.,
        ICML 2022)."""
        ears = self.tuned(FOLDS)
        if self.sources.recordings:
            parts = [ears.state_dict(), *(self.without(fold).state_dict() for fold in FOLDS)]
            ears.load_state_dict({key: sum(part[key] for part in parts) / len(parts) for key in parts[0]})
        return ears

    def encoder(self, ears: Ears, calibration: Calibration | None = None) -> CAVMAEEncoder:
        made, calibration = as_encoder(ears.model.eval(), self.captions), calibration or Calibration()
        made.known, made.tau = ears.known(calibration.threshold), calibration.tau
        return made

    def calibration(self) -> Calibration:
        """The threshold below which REFUSED of the known recordings lie, and the temperature of the scores
        that fits them and unseen synthesized sounds best; each recording by the encoder that has not heard
        it."""
        known, cosines, truth = [], [], []

        def add(encoder: CAVMAEEncoder, sounds: list[Sound], event: str) -> None:
            f_a = torch.cat([encoder.embed([sound]) for sound in sounds])
            known.append(encoder.known.probability(f_a))
            cosines.append(f_a @ encoder.label_vectors.T)
            truth.extend([EVENTS.index(event)] * len(sounds))

        for fold in FOLDS if self.sources.recordings else ():
            encoder = self.encoder(self.without(fold))
            for event, path in esc10.recordings(self.sources.recordings, (fold,)):
                add(encoder, [load(path)], event)
        recordings, final = len(truth), self.encoder(self.mean())
        for event in EVENTS:
            add(final, [synthesize(event, 0.5, UNHEARD + i) for i in range(SYNTHESIZED_TO_CALIBRATE)], event)
        scores, wanted = torch.cat(cosines), torch.tensor(truth)
        tau = min(TAUS, key=lambda tau: float(F.cross_entropy(scores / tau, wanted)))
        probabilities = torch.cat(known)[:recordings]
        return Calibration(float(probabilities.quantile(REFUSED)) if recordings else 0.5, tau)

    def export(self, path: Path) -> None:
        """Writes the encoder that ships, and to the work folder those that leave a fold out."""
        calibration = self.calibration()
        save(self.encoder(self.mean(), calibration), path, made_by=MADE_BY)
        for fold in FOLDS if self.sources.recordings else ():
            encoder = self.encoder(self.without(fold), calibration)
            save(encoder, self.work / f"without_fold_{fold}.safetensors", made_by=MADE_BY)
