"""What the alignment study (`align_study.py`) trains and measures on, each part made once and kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ... import files
from ...align.train import Pairs
from ...audio import load, loudness
from ...data.benchmarks import read_recordings
from ...encoders.cavmae import CAVMAE
from ..build.sound_encoder import CONFIG, TRAIN_SEED, level_vectors
from ..captions import LEVELS
from ..loaders import WEIGHTS, load_sound_encoder, load_text, weights_file
from ..pictures import render
from ..sounds import synthesize
from ..text import CaptionEncoder
from ..world import EVENTS, FOLDS, SCENES
from .align_sounds import Clips, bank, batches, synthetic_clips

TEST_SEED, PICTURE_SEED = 7_000_000, 8_000_000
LABELS = len(EVENTS) * len(LEVELS)


class Study:
    """SoundWorld's frozen towers and its sounds, each made once and kept in `out`."""

    def __init__(
        self,
        out: Path,
        recordings: Path | None,
        sounds: int = 2000,
        pictures: int = 40,
        tests: int = 10,
        batch: int = 40,
    ):
        """`sounds` to train on, `pictures` of each of the 50 labels, and `tests`, pairs of each label;
        `batch` sounds a training step."""
        self.out, self.recordings, self.start = out, recordings, time.monotonic()
        self.sounds, self.pictures, self.tests, self.batch = sounds, pictures, tests, batch
        out.mkdir(parents=True, exist_ok=True)
        self.encoder = load_sound_encoder()
        self.caption_encoder = CaptionEncoder(*load_text(WEIGHTS))
        models = [weights_file(name).read_bytes() for name in ("sound_encoder", "text")]
        settings = {"sounds": sounds, "pictures": pictures, "tests": tests, "batch": batch}
        settings |= {"recordings": recordings is not None}
        files.check_same_settings(
            out / "settings.json", settings | {"models": sha256(b"".join(models)).hexdigest()[:16]}
        )

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.start:7.0f} s  {text}", flush=True)

    def keep(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        path = self.out / f"{name}.safetensors"
        if not path.exists():
            self.say(f"making {path}")
            files.write_safetensors(path, make(), {}, f"The study's {name}")
        return files.read_safetensors(path)[0]

    def run(self, name: str, make: Callable[[], dict]) -> dict:
        """The result of `make`, kept as JSON."""
        path = self.out / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, json.dumps(make(), indent=1).encode(), "The study's result")
        return json.loads(path.read_text(encoding="utf-8"))

    def synthetic(self) -> Clips:
        made = self.keep(f"sounds_{self.sounds}", lambda: vars(synthetic_clips(self.sounds, TRAIN_SEED)))
        return Clips(**made)

    def training(self) -> Callable[[torch.Generator, int], Pairs]:
        """SoundWorld's batches: synthesized sounds at any loudness, words of that loudness, pictures."""

        def pictures() -> dict[str, Tensor]:
            labels = torch.arange(LABELS).repeat_interleave(self.pictures)
            return {"f_v": self.embed_pictures(*intensities(labels, PICTURE_SEED)), "labels": labels}

        visual = self.keep(f"pictures_{self.pictures}", pictures)
        return batches(self.synthetic(), level_vectors(self.caption_encoder), visual["f_v"], visual["labels"])

    def test(self) -> dict[str, Tensor]:
        """Sounds of every event at every level that no training uses, each with a picture of the same."""

        def make() -> dict[str, Tensor]:
            labels = torch.arange(LABELS).repeat_interleave(self.tests)
            events, strengths, seeds = intensities(labels, TEST_SEED)
            sounds = [synthesize(*row) for row in zip(events, strengths, seeds)]
            return {
                "fbanks": torch.stack([bank(sound) for sound in sounds]),
                "f_v": self.embed_pictures(events, strengths, seeds),
                "labels": labels,
            }

        return self.keep(f"test_{self.tests}", make)

    def embed_pictures(self, events: list[str], strengths: list[float], seeds: list[int]) -> Tensor:
        """The shipped tower's embeddings [N, D] of a picture of each in a random scene."""
        parts = []
        for first in range(0, len(events), 200):
            part = slice(first, first + 200)
            drawn = [
                render(SCENES[np.random.default_rng(seed).integers(len(SCENES))], event, strength, seed)
                for event, strength, seed in zip(events[part], strengths[part], seeds[part])
            ]
            pictures = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255
            parts.append(self.encoder.embed_images(pictures))
        return torch.cat(parts)

    def real(self) -> dict[str, Tensor]:
        """The recordings of folds 1 to 4: filter banks, loudness, folds, numbers of their labels."""

        def make() -> dict[str, Tensor]:
            _, recordings = read_recordings(self.recordings, FOLDS)
            sounds = [load(recording.path) for recording in recordings]
            words = sorted({recording.label for recording in recordings})
            return {
                "fbanks": torch.stack([bank(sound) for sound in sounds]),
                "loudness": torch.tensor([loudness(sound) for sound in sounds]),
                "folds": torch.tensor([recording.fold for recording in recordings]),
                "labels": torch.tensor([words.index(recording.label) for recording in recordings]),
            }

        return self.keep("recordings", make)

    def words(self) -> list[str]:
        """The recordings' labels, in the order of their numbers."""
        return sorted({recording.label for recording in read_recordings(self.recordings, FOLDS)[1]})


def intensities(labels: Tensor, seed: int) -> tuple[list[str], list[float], list[int]]:
    """The event of each label [N] (event * levels + level), an intensity of its level, and a seed."""
    rng = np.random.default_rng(seed)
    events = [EVENTS[label // len(LEVELS)] for label in labels.tolist()]
    strengths = [
        float((label % len(LEVELS) + rng.uniform(0.05, 0.95)) / len(LEVELS)) for label in labels.tolist()
    ]
    return events, strengths, [seed + i for i in range(len(events))]


@torch.no_grad()
def embed_fbanks(model: CAVMAE, fbanks: Tensor) -> Tensor:
    """[N, frames, mel] to features [N, D] of length one."""
    parts = [(part.float() - CONFIG.fbank_mean) / CONFIG.fbank_std for part in fbanks.split(16)]
    return F.normalize(torch.cat([model.audio_features(part) for part in parts]), dim=-1)


def new_model(study: Study, seed: int) -> CAVMAE:
    """The shipped visual tower beside an audio branch with random weights."""
    torch.manual_seed(seed)
    model = CAVMAE(CONFIG)
    audio_branch = {id(p) for p in model.audio_parameters()}
    shipped = study.encoder.model.state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if id(parameter) not in audio_branch:
                parameter.copy_(shipped[name])
    return model
