"""CAV-MAE as a sound encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound, windows
from ..errors import InputError
from ..fbank import fbank
from .cavmae import CAVMAE, IMAGE_MEAN, IMAGE_STD, CAVMAEConfig


class CAVMAEEncoder:
    """CAV-MAE as a SoundEncoder: mean over tokens, then length one, as its retrieval does.

    A sound is mixed to mono (the mean of its channels: CAV-MAE's own loader takes the first, and a sound
    that is panned to the right would be silence), resampled to `rate`, and cut into windows of `seconds`
    (the last one padded with silence, and left out when it is shorter than a quarter; CAV-MAE pads the
    filter bank with zeros instead, which is a loud noise); a sound's embedding is the mean over its windows,
    of length one. Its level is not normalised: loudness reaches the embedding.
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
    ):
        self.model = model.eval()
        self.labels, self.label_vectors = labels, F.normalize(label_vectors.float(), dim=-1)
        self.tau, self.name, self.space, self.notes = tau, name, space, dict(notes or {})
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

    def fbanks(self, waveforms: Tensor) -> Tensor:
        """Waveforms [B, T] at `rate` to normalised filter banks [B, frames, mel_bins]; padded frames are
        zeros first."""
        c = self.model.config
        return (fbank(waveforms, c.rate, c.mel_bins, c.frames) - c.fbank_mean) / c.fbank_std

    def windows(self, sound: Sound) -> Tensor:
        """The sound as [W, samples of one window]."""
        size = round(self.seconds * self.rate)
        parts = windows(sound, self.rate, self.seconds)
        return torch.stack([F.pad(part, (0, size - len(part))) for part in parts])

    @torch.no_grad()
    def embed(self, sounds: list[Sound], first_window: bool = False, *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one; `first_window` takes only
        their first `seconds`, as CAV-MAE does. With `own_length` they are as long as their windows'
        features are on average."""
        windows = [self.windows(sound)[: 1 if first_window else None] for sound in sounds]
        if not windows:
            return torch.zeros(0, self.dim)
        features = self._features(torch.cat(windows)).split([len(rows) for rows in windows])
        f_a = F.normalize(torch.stack([F.normalize(rows, dim=-1).mean(0) for rows in features]), dim=-1)
        if not own_length:
            return f_a
        return f_a * torch.stack([rows.norm(dim=-1).mean() for rows in features])[:, None]

    def embed_waveforms(self, waveforms: Tensor) -> Tensor:
        """Waveforms [B, T] at `rate`, one window each (padded with zeros or cut), to [B, dim] of length
        one."""
        return F.normalize(self._features(waveforms), dim=-1)

    @torch.no_grad()
    def _features(self, waveforms: Tensor) -> Tensor:
        size = round(self.seconds * self.rate)
        waveforms = F.pad(waveforms, (0, size - waveforms.shape[-1]))
        features = [
            self.model.audio_features(self.fbanks(part.to(self.device))) for part in waveforms.split(16)
        ]
        return torch.cat(features)

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
        size = self.image_size
        images = images.float()
        height, width = images.shape[-2:]
        if (height, width) != (size, size):
            # Truncated, not rounded, and cropped as in torchvision, which CAV-MAE uses.
            shape = [side * size // min(height, width) for side in (height, width)]
            images = F.interpolate(images, shape, mode="bicubic", antialias=True).clamp(0, 1)
            top, left = (round((side - size) / 2) for side in shape)
            images = images[..., top : top + size, left : left + size]
        mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
        for part in images.cpu().split(64):
            yield ((part - mean) / std).to(self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """This family's own weights and settings, as its files hold them."""
        return self.model.state_dict(), {"config": json.dumps(asdict(self.model.config))}

    @classmethod
    def restore(
        cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str, **common
    ) -> CAVMAEEncoder:
        """An encoder from its `state`; `common` is what the files of every family hold.

        Raises InputError where weights are missing; KeyError, TypeError or ValueError for bad settings.
        """
        model = CAVMAE(CAVMAEConfig(**json.loads(settings["config"])))
        model.take(weights, file)
        return cls(model.requires_grad_(False), **common)
