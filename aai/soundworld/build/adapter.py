"""`python -m aai.soundworld.build.adapter`: SoundWorld's universal adapters, from its finished weights.

600 synthesized sounds, as many of each event, the recordings that the encoder was tuned on, and what is
heard of the sounds of 300 mixtures that are taken apart, with two rendered pictures each of the event at the
sound's own intensity, in any scene. Half of the sounds are cut to their loudest 1.5 to 5 seconds, so that a
part of a sound means what the whole does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...adapt.examples import Examples
from ...adapt.universal import SoundAdapter
from ...adapt.universal_file import save
from ...adapt.universal_settings import AdapterSettings
from ...adapt.universal_train import AdapterRun, train_adapter
from ...audio import Sound, loudness
from ...audio import load as load_sound
from ...encoders.apart import take_apart
from ...encoders.base import SoundEncoder
from ...encoders.fingerprint import digest, encoder_fingerprint
from ...encoders.loaders import load as load_encoder
from ...picture.model import PictureModel
from .. import esc10
from ..captions import label_of, phrase
from ..loaders import WEIGHTS, load_picture_model, load_sound_encoder, load_text
from ..pictures import render
from ..sounds import at_any_level, at_once, intensity_of, synthesize
from ..text import CaptionEncoder, as_word, scale_of
from ..world import EVENTS, FOLDS, SCENES
from .presence import FARTHEST

SEEDS = 3_000_000
"""Where the sounds' seeds begin: no encoder was trained on these."""
SYNTHESIZED = 600
SHORTEST = 1.5
FAINTEST = 0.05
MIXTURES = 300
RECORDED, PICTURED, MIXED = 1, 2, 3
"""What numbers are drawn for, beside the synthesized sounds' own."""
SETTINGS = {
    name: AdapterSettings(steps=steps, batch=8, near=0.3) for name, steps in (("unet", 800), ("flow", 1200))
}
"""By eq. 6 alone, words of two sounds in one prompt show one of them: they are too unlike a prompt's own."""


def loudest(sound: Sound, seconds: float) -> Sound:
    """The part of a sound of so many seconds that has the most energy, from a tenth of a second on."""
    hop = sound.rate // 10
    size = min(round(seconds * sound.rate) // hop, sound.waveform.shape[-1] // hop)
    samples = sound.mono().waveform[0]
    energy = samples[: len(samples) // hop * hop].reshape(-1, hop).square().sum(1)
    begin = int(energy.unfold(0, size, 1).sum(1).argmax()) * hop
    return replace(sound, waveform=sound.waveform[:, begin : begin + size * hop])


@dataclass(frozen=True)
class Told:
    """A sound of the library, or what the encoder has heard of it (f_a [d]), the event that it is of, and how
    intense its pictures show that."""

    sound: Sound | Tensor
    event: str
    intensity: float


def synthesized(events: Sequence[str], count: int) -> list[Told]:
    """`count` sounds of `events` in turn, every other round of them cut."""
    made = []
    for i in range(count):
        event, rng = events[i % len(events)], np.random.default_rng([SEEDS, i])
        intensity = float(rng.uniform(0.05, 1))
        sound = synthesize(event, intensity, SEEDS + i)
        if (i // len(events)) % 2:
            sound = loudest(sound, float(rng.uniform(SHORTEST, sound.seconds)))
        made.append(Told(sound, event, intensity))
    return made


def recorded(folder: Path, folds: Sequence[int], events: Sequence[str]) -> list[Told]:
    """ESC-10's recordings of some folds, each whole and cut; how loud it is says how intense."""
    made = []
    for i, (event, path) in enumerate(esc10.recordings(folder, folds)):
        if event in events:
            sound, rng = load_sound(path), np.random.default_rng([SEEDS, RECORDED, i])
            intensity = max(intensity_of(loudness(sound)), FAINTEST)
            cut = loudest(sound, float(rng.uniform(SHORTEST, sound.seconds)))
            made += [Told(sound, event, intensity), Told(cut, event, intensity)]
    return made


def apart(encoder: SoundEncoder, events: Sequence[str], count: int) -> list[Told]:
    """The sounds that `take_apart` finds in `count` mixtures of two of `events`, where it names them right:
    they are never quite without each other, and a word is to say one of them."""
    made = []
    for i in range(count):
        rng = np.random.default_rng([SEEDS, MIXED, i])
        pair = {label_of(str(event), encoder): str(event) for event in rng.choice(events, 2, replace=False)}
        first, second = (
            synthesize(event, float(rng.uniform(0.3, 1)), SEEDS + SYNTHESIZED + 2 * i + k)
            for k, event in enumerate(pair.values())
        )
        mixture = at_once(first, second, rng.uniform(0, FARTHEST))
        for part in take_apart(encoder, at_any_level(mixture, rng)):
            if part.word in pair:
                intensity = max(intensity_of(part.embedding.loudness), FAINTEST)
                made.append(Told(part.embedding.f_a, pair[part.word], intensity))
    return made


def library(
    encoder: SoundEncoder,
    events: Sequence[str] = EVENTS,
    recordings: Path | None = None,
    folds: Sequence[int] = FOLDS,
) -> list[Told]:
    """All that an adapter is trained on; `recordings` is ESC-10's folder of classes, if there is one."""
    return [
        *synthesized(events, SYNTHESIZED),
        *(recorded(recordings, folds, events) if recordings else []),
        *apart(encoder, events, MIXTURES),
    ]


def examples(
    model: PictureModel,
    encoder: SoundEncoder,
    text: CaptionEncoder,
    library: Sequence[Told],
    each: int = 2,
) -> Examples:
    """A library of sounds, each with `each` pictures of its event in any scene, and with the word that its
    phrase is to the text tower."""
    phrases = [phrase(told.event, told.intensity) for told in library]
    words = as_word(text.embed(phrases), scale_of(text.model))
    f_a: dict[int, Tensor] = {}
    latents: dict[tuple[int, int], Tensor] = {}
    for i, told in enumerate(library):
        f_a[i] = told.sound if isinstance(told.sound, Tensor) else encoder.embed([told.sound])[0]
        rng = np.random.default_rng([SEEDS, PICTURED, i])
        drawn = [
            render(str(rng.choice(SCENES)), told.event, told.intensity, SEEDS + each * i + j)
            for j in range(each)
        ]
        pictures = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255
        latents |= {(i, j): latent for j, latent in enumerate(model.encode_images(pictures).cpu())}
    return Examples(
        [told.event for told in library],
        [each] * len(library),
        f_a,
        latents,
        encoder_fingerprint(encoder.family, encoder.state()[0]),
        encoder.name,
        (list(encoder.labels), encoder.label_vectors.float()),
        "SoundWorld",
        digest(*(told.event for told in library), *f_a.values(), words),
        {"clip_l": words},
    )


def make(
    model: PictureModel,
    encoder: SoundEncoder,
    text: CaptionEncoder,
    library: Sequence[Told],
    settings: AdapterSettings,
    report: Callable[[int, int, float], None] | None = None,
) -> SoundAdapter:
    """An adapter for a picture model of SoundWorld's, trained on a library."""
    run = AdapterRun(model, examples(model, encoder, text, library), settings)
    return train_adapter(run, "SoundWorld", callback=report, provenance={"made by": "aai.soundworld.build"})


def write(
    name: str,
    model: PictureModel,
    folder: Path,
    encoder: SoundEncoder,
    text: CaptionEncoder,
    library: Sequence[Told],
) -> Path:
    """Makes the adapter of the picture model `name` ("unet", "flow") into a folder."""

    def report(step: int, steps: int, loss: float) -> None:
        if step % 25 == 0:
            print(f"adapter {name} {step}: {loss:.4f}", flush=True)

    path = folder / f"adapter_{name}.safetensors"
    save(make(model, encoder, text, library, SETTINGS[name], report), path, torch.float16)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build.adapter", description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder of weights (%(default)s)")
    parser.add_argument(
        "--recordings", type=Path, help="ESC-10's folder of classes; without it, synthesized sounds alone"
    )
    parser.add_argument(
        "--models", nargs="+", choices=("unet", "flow"), default=("unet", "flow"), help="for which (both)"
    )
    parser.add_argument(
        "--without", nargs="+", choices=EVENTS, default=(), help="events that it is not to hear"
    )
    parser.add_argument(
        "--folds", nargs="+", type=int, choices=FOLDS, default=FOLDS, help="of the recordings (all)"
    )
    parser.add_argument("--encoder", type=Path, help="the file of another encoder of SoundWorld's")
    parser.add_argument("--output", type=Path, help="another folder, which these three need")
    arguments = parser.parse_args()
    fewer = arguments.without or arguments.encoder or len(arguments.folds) < len(FOLDS)
    if fewer and not arguments.output:
        parser.error(
            "such an adapter is made to be measured, not to be shipped: give a folder with --output."
        )
    encoder = load_encoder(arguments.encoder) if arguments.encoder else load_sound_encoder(arguments.weights)
    events = [event for event in EVENTS if event not in arguments.without]
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
    sounds = library(encoder, events, arguments.recordings, arguments.folds)
    text = CaptionEncoder(*load_text(arguments.weights))
    for name in arguments.models:
        model = load_picture_model(arguments.weights, name)
        print(write(name, model, arguments.output or arguments.weights, encoder, text, sounds))


if __name__ == "__main__":
    main()
