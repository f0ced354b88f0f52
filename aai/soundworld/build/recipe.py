"""The recipe of SoundWorld's weights, which `python -m aai.soundworld.build` follows.

The parts are made in order, each kept in the work folder when done, so a stopped run resumes where it was.
Real recordings (ESC-10's folders of classes, `FOLD-ID-TAKE.ogg`) join the synthesized sounds when a folder is
given; without one the encoder is trained on synthesized sounds only. `--export` copies the finished parts
into `weights/` as float16 safetensors.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ... import files
from ...audio import load, loudness
from ...encoders.cavmae import CAVMAE
from ...encoders.loaders import save as save_encoder
from ...errors import InputError
from ..captions import LEVELS, level
from ..models import PatchAutoencoder, build_unet
from ..oracle import Oracle
from ..pictures import draw_all, event_mask, random_scenes
from ..sounds import synthesize
from ..text import CaptionEncoder, build_text_tower, load_tokenizer
from ..world import ESC10, EVENTS, SCENES
from .diffusion import caption_states, encode_pictures, refine_autoencoder, train_unet
from .oracle import train_oracle
from .sound_encoder import (
    CONFIG,
    Clips,
    as_encoder,
    bank,
    batches,
    level_vectors,
    train_hearing,
    train_visual,
)
from .text import build_tokenizer, train_text

TRAIN_SEED = 1_000_000
# Steps, rate and the share of patches encoded: a quarter is enough, at a third of the cost, until the last
# round, which encodes every patch, as in use.
HEARING_ROUNDS = ((3600, 1e-3, 0.25), (2000, 6e-4, 0.25))
FINAL_ROUND = (100, 2e-4, 1.0)
SCENE_SEED = 1


class Report:
    """Prints one line in `every` steps, with the time since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, part: str, every: int = 25) -> Callable:
        def report(step: int, *figures) -> None:
            if step % every == 0:
                shown = " ".join(_figure(f) for f in figures)
                print(f"{time.monotonic() - self.start:7.0f} s  {part} {step}: {shown}", flush=True)

        return report


def _figure(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k} {v:.3f}" for k, v in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def real_clips(recordings: Path, folds: tuple[int, ...]) -> Clips:
    """The recordings of SoundWorld's classes in the given folds, each one's first seconds."""
    fbanks, events, levels = [], [], []
    for folder, event in ESC10.items():
        for path in sorted((recordings / folder).glob("*.ogg")):
            if int(path.name.split("-")[0]) in folds:
                sound = load(path)
                fbanks.append(bank(sound))
                events.append(EVENTS.index(event))
                levels.append(loudness(sound))
    if not fbanks:
        raise InputError(
            f"'{recordings}' holds no recordings of folds {folds}: give ESC-10's folder, or leave it out."
        )
    return Clips(torch.stack(fbanks), torch.tensor(events), torch.tensor(levels))


def synthetic_clips(count: int, seed: int) -> Clips:
    """`count` synthesized sounds, every event in turn, at random intensities."""
    fbanks, levels = [], []
    for i in range(count):
        intensity = float(np.random.default_rng([seed, i]).uniform(0.05, 1))
        sound = synthesize(EVENTS[i % len(EVENTS)], intensity, seed + i)
        fbanks.append(bank(sound))
        levels.append(loudness(sound))
    return Clips(torch.stack(fbanks), torch.arange(count) % len(EVENTS), torch.tensor(levels))


class Build:
    """The parts of SoundWorld, each made once and kept in `work`."""

    def __init__(self, work: Path, recordings: Path | None, unet_minutes: float, seed: int):
        self.work, self.recordings, self.unet_minutes, self.seed = work, recordings, unet_minutes, seed
        self.report = Report()
        work.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, make: Callable[[], object]):
        """The result of `make`, from the work folder where it is kept."""
        path = self.work / f"{name}.pt"
        if not path.exists():
            torch.save(make(), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        return torch.load(path, weights_only=True)

    def caption_encoder(self) -> CaptionEncoder:
        folder = self.work / "tokenizer"
        if not (folder / "tokenizer_config.json").exists():
            build_tokenizer(folder)
        tokenizer = load_tokenizer(folder)

        def make() -> dict[str, Tensor]:
            model, share = train_text(tokenizer, seed=self.seed, report=self.report("text"))
            print(f"text: reads {100 * share:.1f} % of unseen one-word phrases right", flush=True)
            return model.state_dict()

        model = build_text_tower(tokenizer)
        model.load_state_dict(self.keep("text", make))
        return CaptionEncoder(tokenizer, model.eval().requires_grad_(False))

    def scenes(self):
        return random_scenes(9000, SCENE_SEED)

    def pictures(self) -> Tensor:
        return self.keep("pictures", lambda: draw_all(self.scenes()))

    def linear_autoencoder(self) -> PatchAutoencoder:
        def make() -> dict[str, Tensor]:
            autoencoder = PatchAutoencoder()
            sample = self.pictures()[:1500].float() / 127.5 - 1
            patches = sample.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 192)
            kept = autoencoder.fit_linear(patches, whitening=0.6)
            print(f"autoencoder: {100 * kept:.1f} % of the variance kept", flush=True)
            return autoencoder.state_dict()

        autoencoder = PatchAutoencoder()
        autoencoder.load_state_dict(self.keep("autoencoder_linear", make))
        return autoencoder

    def captions(self) -> Tensor:
        return self.keep(
            "captions", lambda: caption_states(self.caption_encoder(), self.scenes(), 3, SCENE_SEED)
        )

    def unet(self) -> torch.nn.Module:
        def make() -> dict[str, Tensor]:
            latents = encode_pictures(self.linear_autoencoder(), self.pictures())
            empty = self.caption_encoder().states([""], length=77)[0][0]
            return train_unet(
                latents, self.captions(), empty, self.work, self.unet_minutes, seed=self.seed,
                report=self.report("unet", 50),
            ).state_dict()  # fmt: skip

        model = build_unet()
        model.load_state_dict(self.keep("unet", make))
        return model.eval().requires_grad_(False)

    def autoencoder(self) -> PatchAutoencoder:
        """The autoencoder with a decoder refined on the U-Net's latents."""

        def make() -> dict[str, Tensor]:
            autoencoder = self.linear_autoencoder()
            gain = refine_autoencoder(
                autoencoder, self.pictures(), self.unet(), self.captions(), seed=self.seed,
                report=self.report("refine"),
            )  # fmt: skip
            print(f"autoencoder: the network takes away {100 * gain:.0f} % of the error", flush=True)
            return autoencoder.state_dict()

        autoencoder = PatchAutoencoder()
        autoencoder.load_state_dict(self.keep("autoencoder", make))
        return autoencoder

    def oracle(self) -> Oracle:
        def make() -> dict[str, Tensor]:
            scenes, count = self.scenes(), 6000
            rows = list(zip(scenes.scene, scenes.event, scenes.intensity, scenes.seed))[:count]
            masks = torch.stack([torch.from_numpy(event_mask(*row, 64)) for row in rows])
            events = torch.tensor(
                [len(EVENTS) if event is None else EVENTS.index(event) for _, event, _, _ in rows]
            )
            places = torch.tensor([SCENES.index(scene) for scene, _, _, _ in rows])
            intensities = torch.tensor([intensity for _, _, intensity, _ in rows])
            return train_oracle(
                self.pictures()[:count],
                masks,
                events,
                places,
                intensities,
                seed=self.seed,
                report=self.report("oracle"),
            ).state_dict()

        oracle = Oracle()
        oracle.load_state_dict(self.keep("oracle", make))
        return oracle.eval().requires_grad_(False)

    def audio_round(
        self, name: str, folds: tuple[int, ...], round_: tuple[int, float, float], start: str | None
    ) -> CAVMAE:
        """The encoder after a round of eq. 1 on synthesized sounds and the recordings of `folds`; `start`
        names the round before."""
        caption_encoder, scenes = self.caption_encoder(), self.scenes()

        def visual() -> dict[str, Tensor]:
            torch.manual_seed(self.seed)
            model = CAVMAE(CONFIG)
            train_visual(
                model, caption_encoder, scenes, self.pictures(), seed=self.seed, report=self.report("visual")
            )
            return model.state_dict()

        def make() -> dict[str, Tensor]:
            model = CAVMAE(CONFIG)
            model.load_state_dict(self.keep("visual", visual))
            encoder = as_encoder(model, caption_encoder)
            features = self.keep(
                "visual_features",
                lambda: torch.cat(
                    [encoder.embed_images(p.float() / 255) for p in self.pictures().split(500)]
                ),
            )
            if start:
                model.load_state_dict(self.keep(start, dict))
            labels = torch.tensor(
                [
                    -1 if e is None else EVENTS.index(e) * len(LEVELS) + level(i)
                    for e, i in zip(scenes.event, scenes.intensity)
                ]
            )
            synthetic = Clips(**self.keep("sounds", lambda: vars(synthetic_clips(4000, TRAIN_SEED))))
            real = real_clips(self.recordings, folds) if self.recordings and folds else None
            source = batches(synthetic, real, level_vectors(caption_encoder), features, labels)
            report = self.report("hearing")
            train_hearing(
                model,
                source,
                *round_,
                seed=self.seed + sum(map(ord, name)),
                callback=lambda step, total, f: report(step, f),
            )
            return model.state_dict()

        model = CAVMAE(CONFIG)
        model.load_state_dict(self.keep(name, make))
        return model.eval()

    def export(self, folder: Path) -> None:
        """Writes every finished part as float16 safetensors; the encoder that fold 4 measures stays in the
        work folder."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
        text = {
            f"text_model.{k.removeprefix('text_model.')}": v
            for k, v in self.caption_encoder().model.state_dict().items()
        }
        parts = {
            "text": text,
            "autoencoder": self.autoencoder().state_dict(),
            "unet": self.unet().state_dict(),
            "oracle": self.oracle().state_dict(),
        }
        for name, tensors in parts.items():
            tensors = {k: v.half() for k, v in tensors.items()}
            metadata = {"made_by": "python -m aai.soundworld.build"}
            files.write_safetensors(folder / f"{name}.safetensors", tensors, metadata, "SoundWorld's weights")
        encoder = as_encoder(self.final_model(), self.caption_encoder())
        save_encoder(encoder, folder / "sound_encoder.safetensors", made_by="python -m aai.soundworld.build")
        measured = as_encoder(self.measured_model(), self.caption_encoder())
        save_encoder(
            measured, self.work / "measured_encoder.safetensors", made_by="python -m aai.soundworld.build"
        )
        print(f"exported to {folder}", flush=True)

    def measured_model(self) -> CAVMAE:
        """The encoder that fold 4 measures: recordings of folds 1 to 3 only."""
        name = None
        for number, round_ in enumerate(HEARING_ROUNDS, 1):
            before, name = name, f"hearing_123_{number}"
            model = self.audio_round(name, (1, 2, 3), round_, before)
        return model

    def final_model(self) -> CAVMAE:
        """The encoder that ships: the measured one, tuned on with fold 4 among its recordings."""
        measured = self.measured_model()
        if not self.recordings:
            return measured
        return self.audio_round(
            "hearing_1234", (1, 2, 3, 4), FINAL_ROUND, f"hearing_123_{len(HEARING_ROUNDS)}"
        )
