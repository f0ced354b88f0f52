"""`python -m aai.soundworld.build.adapter`: SoundWorld's universal adapters, from its finished weights.

600 synthesized sounds, as many of each event, with two rendered pictures each of the event at the sound's own
intensity, in any scene. Every other sound is cut to its loudest 1.5 to 5 seconds, so that a part of a sound
means what the whole does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...adapt.examples import Examples
from ...adapt.universal import SoundAdapter
from ...adapt.universal_file import save
from ...adapt.universal_settings import AdapterSettings
from ...adapt.universal_train import AdapterRun, train_adapter
from ...audio import Sound
from ...encoders.base import SoundEncoder
from ...encoders.fingerprint import encoder_fingerprint
from ...encoders.loaders import load as load_encoder
from ...picture.model import PictureModel
from ..loaders import WEIGHTS, load_picture_model, load_sound_encoder
from ..pictures import render
from ..sounds import synthesize
from ..world import EVENTS, SCENES

SEEDS = 3_000_000
"""Where the sounds' seeds begin: no encoder was trained on these."""
SHORTEST = 1.5
SETTINGS = AdapterSettings(steps=600, batch=8)


def loudest(sound: Sound, seconds: float) -> Sound:
    """The part of a sound of so many seconds that has the most energy, from a tenth of a second on."""
    hop = sound.rate // 10
    size = min(round(seconds * sound.rate) // hop, sound.waveform.shape[-1] // hop)
    samples = sound.mono().waveform[0]
    energy = samples[: len(samples) // hop * hop].reshape(-1, hop).square().sum(1)
    begin = int(energy.unfold(0, size, 1).sum(1).argmax()) * hop
    return replace(sound, waveform=sound.waveform[:, begin : begin + size * hop])


def examples(
    model: PictureModel,
    encoder: SoundEncoder,
    events: Sequence[str] = EVENTS,
    count: int = 600,
    each: int = 2,
) -> Examples:
    """`count` sounds of `events` in turn, each with `each` pictures."""
    f_a: dict[int, Tensor] = {}
    latents: dict[tuple[int, int], Tensor] = {}
    labels = [events[i % len(events)] for i in range(count)]
    for i, event in enumerate(labels):
        rng = np.random.default_rng([SEEDS, i])
        intensity = float(rng.uniform(0.05, 1))
        sound = synthesize(event, intensity, SEEDS + i)
        if (i // len(events)) % 2:
            sound = loudest(sound, float(rng.uniform(SHORTEST, sound.seconds)))
        f_a[i] = encoder.embed([sound])[0]
        scenes = [str(rng.choice(SCENES)) for _ in range(each)]
        drawn = np.stack([render(s, event, intensity, SEEDS + each * i + j) for j, s in enumerate(scenes)])
        pictures = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
        latents |= {(i, j): latent for j, latent in enumerate(model.encode_images(pictures).cpu())}
    return Examples(
        labels,
        [each] * count,
        f_a,
        latents,
        encoder_fingerprint(encoder.family, encoder.state()[0]),
        encoder.name,
        (list(encoder.labels), encoder.label_vectors.float()),
        "SoundWorld",
        f"{SEEDS} {count} {each} {', '.join(events)}",
    )


def make(
    model: PictureModel,
    encoder: SoundEncoder,
    events: Sequence[str] = EVENTS,
    settings: AdapterSettings = SETTINGS,
    report: Callable[[int, int, float], None] | None = None,
) -> SoundAdapter:
    """An adapter for a picture model of SoundWorld's, trained on these events."""
    run = AdapterRun(model, examples(model, encoder, events), settings)
    return train_adapter(run, "SoundWorld", callback=report, provenance={"made by": "aai.soundworld.build"})


def write(
    name: str,
    model: PictureModel,
    folder: Path,
    events: Sequence[str] = EVENTS,
    encoder: SoundEncoder | None = None,
    output: Path | None = None,
) -> Path:
    """Makes the adapter of the picture model `name` ("unet", "flow") and the encoder of a folder of weights,
    or another `encoder`, beside them or in `output`."""

    def report(step: int, steps: int, loss: float) -> None:
        if step % 25 == 0:
            print(f"adapter {name} {step}: {loss:.4f}", flush=True)

    path = (output or folder) / f"adapter_{name}.safetensors"
    save(make(model, encoder or load_sound_encoder(folder), events, report=report), path, torch.float16)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build.adapter", description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder of weights (%(default)s)")
    parser.add_argument(
        "--models", nargs="+", choices=("unet", "flow"), default=("unet", "flow"), help="for which (both)"
    )
    parser.add_argument(
        "--without", nargs="+", choices=EVENTS, default=(), help="events that it is not to hear"
    )
    parser.add_argument("--encoder", type=Path, help="the file of another encoder of SoundWorld's")
    parser.add_argument("--output", type=Path, help="another folder, which these two need")
    arguments = parser.parse_args()
    if (arguments.without or arguments.encoder) and not arguments.output:
        parser.error(
            "such an adapter is made to be measured, not to be shipped: give a folder with --output."
        )
    encoder = load_encoder(arguments.encoder) if arguments.encoder else None
    events = [event for event in EVENTS if event not in arguments.without]
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        model = load_picture_model(arguments.weights, name)
        print(write(name, model, arguments.weights, events, encoder, arguments.output))


if __name__ == "__main__":
    main()
