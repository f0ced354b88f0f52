"""The recipe of SoundWorld's weights, which `python -m aai.soundworld.build` follows.

The parts are made in order, each kept in the work folder when done, so a stopped run resumes where it was.
`--export` copies the finished parts into `weights/` as float16 safetensors.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ..loaders import load_picture_model, load_sound_encoder
from ..models import PatchAutoencoder, build_flow, build_unet
from ..oracle import Oracle
from ..pictures import draw_all, event_mask, random_scenes
from ..text import CaptionEncoder, build_text_tower, load_tokenizer
from ..world import EVENTS, SCENES
from . import adapter, events_oracle, presence, two_events
from .decoder import flow_guess, refine_autoencoder, unet_guess
from .denoiser import Loss, caption_states, captions_of, encode_pictures, flow_loss, train_denoiser, v_loss
from .ears import SoundEncoderBuild, Sources
from .kept import kept, write_weights
from .oracle import train_oracle
from .text import build_tokenizer, train_text

SCENE_SEED = 1
CAPTIONS = 3
"""Captions of every picture."""
PAIRS = 12_000


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


class Build:
    """The parts of SoundWorld, each made once and kept in `work`."""

    def __init__(
        self,
        work: Path,
        sources: Sources,
        unet_minutes: float,
        flow_minutes: float,
        both_minutes: float,
        seed: int,
    ):
        self.work, self.sources, self.seed = work, sources, seed
        self.unet_minutes, self.flow_minutes, self.both_minutes = unet_minutes, flow_minutes, both_minutes
        self.report = Report()
        work.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, make: Callable[[], object]):
        """The result of `make`, from the work folder where it is kept."""
        return kept(self.work, name, make)

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
        def states() -> Tensor:
            captions = captions_of(self.scenes(), CAPTIONS, SCENE_SEED)
            return caption_states(self.caption_encoder(), captions, CAPTIONS, SCENE_SEED)

        return self.keep("captions", states)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Pictures of two events, uint8 [N, 3, H, W], and their captions' states."""
        pairs = cache(lambda: [two_events.pair(number) for number in range(PAIRS)])

        def states() -> Tensor:
            captions = two_events.captions_of_pairs(pairs(), CAPTIONS, SCENE_SEED)
            return caption_states(self.caption_encoder(), captions, CAPTIONS, SCENE_SEED)

        return (
            self.keep("pictures_of_two", lambda: two_events.draw_pairs(pairs())),
            self.keep("captions_of_two", states),
        )

    def unet(self) -> nn.Module:
        return self.denoiser("unet", build_unet, v_loss, self.unet_minutes, batch=24, rate=5e-4)

    def flow(self) -> nn.Module:
        return self.denoiser("flow", build_flow, flow_loss, self.flow_minutes, batch=32, rate=1e-3)

    def denoiser(
        self,
        name: str,
        build: Callable[[], nn.Module],
        loss: Loss,
        minutes: float,
        *,
        batch: int,
        rate: float,
    ) -> nn.Module:
        """A denoiser, frozen, that has learned pictures of one event, then of one and of two."""

        def train(name: str, model: nn.Module, pictures: Tensor, states: Tensor, minutes: float, rate: float):
            latents = encode_pictures(self.linear_autoencoder(), pictures)
            empty = self.caption_encoder().states([""], length=77)[0][0]
            return train_denoiser(
                model, loss, latents, states, empty, self.work / f"{name}.ckpt", minutes, batch=batch,
                rate=rate, seed=self.seed, report=self.report(name, 50),
            ).state_dict()  # fmt: skip

        def of_one() -> dict[str, Tensor]:
            torch.manual_seed(self.seed)
            return train(f"{name}_of_one", build(), self.pictures(), self.captions(), minutes, rate)

        def of_both() -> dict[str, Tensor]:
            model = build()
            model.load_state_dict(self.keep(f"{name}_of_one", of_one))
            pictures, states = self.pairs()
            pictures, states = torch.cat([self.pictures(), pictures]), torch.cat([self.captions(), states])
            return train(name, model, pictures, states, self.both_minutes, rate / 2)

        model = build()
        model.load_state_dict(self.keep(name, of_both))
        return model.eval().requires_grad_(False)

    def autoencoder(self) -> PatchAutoencoder:
        """The autoencoder with a decoder refined on the denoisers' latents."""

        def make() -> dict[str, Tensor]:
            autoencoder = self.linear_autoencoder()
            guesses = unet_guess(self.unet()), flow_guess(self.flow())
            gain = refine_autoencoder(
                autoencoder, self.pictures(), guesses, self.captions(), seed=self.seed,
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

    def export(self, folder: Path) -> None:
        """Writes every finished part as float16 safetensors, and trains the adapters on them; the encoder
        that fold 4 measures stays in the work folder."""
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
            "flow": self.flow().state_dict(),
            "oracle": self.oracle().state_dict(),
        }
        for name, tensors in parts.items():
            write_weights(folder, name, tensors, {"made_by": "python -m aai.soundworld.build"})
        self.sound_encoder().export(folder / "sound_encoder.safetensors")
        # On the weights as they are shipped, whose fingerprints it keeps.
        presence.write(folder)
        encoder = load_sound_encoder(folder)
        sounds = adapter.library(encoder, recordings=self.sources.recordings)
        for name in ("unet", "flow"):
            model = load_picture_model(folder, name)
            adapter.write(name, model, folder, encoder, self.caption_encoder(), sounds)
        events_oracle.write(folder)
        print(f"exported to {folder}", flush=True)

    def sound_encoder(self) -> SoundEncoderBuild:
        """The build of the sound encoder, on the parts that it needs."""
        return SoundEncoderBuild(
            self.work,
            self.sources,
            self.caption_encoder(),
            self.scenes(),
            self.pictures(),
            self.seed,
            self.report,
        )
