"""CAV-MAE as a sound encoder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import HIGHEST_RATE, LOWEST_RATE, Sound, windows
from ..errors import InputError
from ..fbank import fbank, samples_of
from ..image import middle_square
from .cavmae import CAVMAE, IMAGE_MEAN, IMAGE_STD, CAVMAEConfig
from .known import Known

PADDINGS = ("waveform", "fbank", "none")
LONGEST_WINDOW = 600.0
"""Seconds; a window is one row of a batch."""


def _check(config: CAVMAEConfig, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError for settings of a model that these weights cannot fill, before it takes memory."""
    sizes = ("dim", "depth_a", "depth_v", "heads", "mel_bins", "frames", "image_size", "patch", "mlp_ratio")
    for name in sizes:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} {value}, which must be a whole number above 0")
    if config.dim % config.heads:
        raise ValueError(f"{config.heads} heads of {config.dim} numbers")
    if not LOWEST_RATE <= config.rate <= HIGHEST_RATE or not 0 < config.seconds <= LONGEST_WINDOW:
        raise ValueError(f"windows of {config.seconds} s at {config.rate} Hz")
    if not all(map(math.isfinite, (config.fbank_mean, config.fbank_std))) or config.fbank_std == 0:
        raise ValueError(f"a filter bank of mean {config.fbank_mean} and deviation {config.fbank_std}")
    numbers = sum(weight.numel() for weight in weights.values())
    blocks = (config.depth_a + config.depth_v + 2) * config.mlp_ratio * config.dim**2
    tokens = (config.audio_tokens + config.image_tokens) * config.dim
    # Twice as many: of a file that lacks a few, `take` says which.
    if max(blocks, tokens, config.patch**2 * config.dim) > 2 * numbers:
        raise ValueError("its sizes are those of a larger model than its weights")


class CAVMAEEncoder:
    """CAV-MAE as a SoundEncoder: mean over tokens, then length one, as its retrieval does.

    A sound is mixed to mono (the mean of its channels: CAV-MAE's own loader takes the first, and a sound
    that is panned to the right would be silence), resampled to `rate`, and cut into windows of `seconds`
    (the last one left out when it is shorter than a quarter); a sound's embedding is the mean over its
    windows, of length one. Its level is not normalised: loudness reaches the embedding.

    `padding` is what a window too short for its frames ends in, as the weights were trained: "waveform", with
    silence up to `seconds`, or "fbank", with zeros in the filter bank before it is normalised (1.13 after),
    as CAV-MAE was (`src/dataloader.py`). There a window's last frames come from the sound behind it, where it
    has any: 1024 frames of 10 ms reach beyond 10 s. With "none" nothing is padded: only the patches that hold
    sound are encoded, so that a second means what the whole does.

    `known` tells whether a sound lies within what the encoder knows; None where that was not calibrated.
    `presence` (`presence.py`) gives each word's probability [L] in a recording, where one was made for it.
    """

    family = "cavmae"
    sees = True

    def __init__(
        self,
        model: CAVMAE,
        labels: list[str],
        label_vectors: Tensor,
        tau: float = 0.05,
        name: str = "CAV-MAE",
        space: str = "",
        notes: Mapping[str, str] | None = None,
        padding: str = "waveform",
        known: Known | None = None,
    ):
        self.model, self.padding, self.known = model.eval(), padding, known
        self.labels, self.label_vectors = labels, F.normalize(label_vectors.float(), dim=-1)
        self.tau, self.name, self.space, self.notes = tau, name, space, dict(notes or {})
        self.presence: Callable[[CAVMAEEncoder, Sound], Tensor] | None = None
        self.rate, self.seconds, self.dim = model.config.rate, model.config.seconds, model.config.dim

    @property
    def device(self) -> torch.device:
        return self.model.modality_a.device

    @property
    def image_size(self) -> int:
        return self.model.config.image_size

    def to(self, device: torch.device | str) -> CAVMAEEncoder:
        self.model.to(device)
        return self

    def visual_parameters(self) -> list[nn.Parameter]:
        return self.model.visual_parameters()

    def fbanks(self, waveforms: Tensor | Sequence[Tensor]) -> Tensor:
        """Waveforms at `rate`, [B, T] or [T] each of any length, to normalised filter banks [B, frames,
        mel_bins]; frames that they lack are zeros before that, or where nothing is padded, the sound once
        more."""
        c = self.model.config
        if len({len(waveform) for waveform in waveforms}) == 1:
            waveforms = [waveforms if isinstance(waveforms, Tensor) else torch.stack(list(waveforms))]
        else:
            waveforms = [waveform[None] for waveform in waveforms]
        own = self.padding == "none"
        parts = [
            fbank(rows.to(self.device), c.rate, c.mel_bins, None if own else c.frames) for rows in waveforms
        ]
        if own:
            parts = [part[:, torch.arange(c.frames) % part.shape[1]] for part in parts]
        features = torch.cat(parts)
        return (features - c.fbank_mean) / c.fbank_std

    def windows(self, sound: Sound) -> list[Tensor]:
        """The sound's windows [T] as `fbanks` takes them."""
        size = round(self.seconds * self.rate)
        if self.padding != "waveform":
            return windows(sound, self.rate, self.seconds, samples_of(self.model.config.frames, self.rate))
        parts = windows(sound, self.rate, self.seconds)
        return [F.pad(part, (0, size - len(part))) for part in parts]

    @torch.no_grad()
    def embed(self, sounds: Iterable[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one. With `own_length` they are
        as long as their windows' features are on average."""
        windows = [self.windows(sound) for sound in sounds]
        if not windows:
            return torch.zeros(0, self.dim)
        features = self._features([part for rows in windows for part in rows])
        features = features.split([len(rows) for rows in windows])
        f_a = F.normalize(torch.stack([F.normalize(rows, dim=-1).mean(0) for rows in features]), dim=-1)
        if not own_length:
            return f_a
        return f_a * torch.stack([rows.norm(dim=-1).mean() for rows in features])[:, None]

    @torch.no_grad()
    def _features(self, waveforms: Sequence[Tensor]) -> Tensor:
        parts = (waveforms[begin : begin + 16] for begin in range(0, len(waveforms), 16))
        if self.padding != "none":
            return torch.cat([self.model.audio_features(self.fbanks(part)) for part in parts])
        return torch.cat([self._own_patches(waveform) for part in parts for waveform in part])

    def _own_patches(self, waveform: Tensor) -> Tensor:
        """A window [T] of any length as the mean over the patches that it fills, [1, dim]."""
        keep = self.model.config.patches_of(self.own_frames(waveform))
        return self.model.audio_features(self.fbanks([waveform]), keep[None].to(self.device))

    def own_frames(self, waveform: Tensor) -> int:
        """How many frames a window [T] has before it is padded, or comes once more."""
        c = self.model.config
        return 1 + max(0, len(waveform) - samples_of(1, c.rate)) // (c.rate // 100)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1], resized (bicubic) and cut from the middle, to [B, dim] of length
        one.

        Raises InputError for pictures of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"Pictures of shape {tuple(images.shape)} cannot be seen: pass [B, 3, H, W].")
        return F.normalize(
            torch.cat([self.model.visual_features(part) for part in self.image_batches(images)]), dim=-1
        )

    def image_batches(self, images: Tensor) -> Iterator[Tensor]:
        """Pictures [B, 3, H, W] in [0, 1] as the visual tower takes them: [up to 64, 3, S, S] at a time."""
        mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
        for part in middle_square(images, self.image_size).cpu().split(64):
            yield ((part - mean) / std).to(self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """This family's own weights and settings, as its files hold them."""
        settings = {"config": json.dumps(asdict(self.model.config)), "padding": self.padding}
        return self.model.state_dict(), settings

    @classmethod
    def restore(
        cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str, **common
    ) -> CAVMAEEncoder:
        """An encoder from its `state`; `common` is what the files of every family hold.

        Raises InputError where weights are missing; KeyError, TypeError or ValueError for bad settings.
        """
        # Files from before there was a choice do not state it.
        padding = settings.get("padding", "waveform")
        if padding not in PADDINGS:
            raise ValueError(f"padding '{padding}', not one of {', '.join(PADDINGS)}")
        config = CAVMAEConfig(**json.loads(settings["config"]))
        _check(config, weights)
        model = CAVMAE(config)
        model.take(weights, file)
        return cls(model.requires_grad_(False), padding=padding, **common)
