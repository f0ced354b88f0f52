"""Sound encoders: what hears a sound and places it in the text encoder's space.

`SoundEncoder` is what every family offers; this file holds CAV-MAE's (CLAP's are in `clap.py` and
`bridge.py`) and the file that an encoder of any family is kept in: one safetensors file with the weights, a
table of labels and their text vectors, and the settings as metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import files
from ..audio import SILENCE, Sound, loudness, sound_hash
from ..errors import InputError
from ..fbank import fbank
from ..files import is_dir, is_file
from .cavmae import CAVMAE, IMAGE_MEAN, IMAGE_STD, CAVMAEConfig

FORMAT = "aai-sound-encoder-1"
SETTINGS = ("format", "family", "name", "labels", "tau", "space", "config", "extractor", "bridge")
"""The metadata that are read back as what they are; all others are notes."""
SOURCES = (
    "Public ones: CAV-MAE (audio_model.21.pth, github.com/YuanGongND/cav-mae, BSD-2-Clause) and LAION-CLAP "
    "(the folder of huggingface.co/laion/clap-htsat-unfused, Apache-2.0)."
)
SHORTEST = 0.1
"""Seconds below which a sound is refused: three frames of a filter bank tell nothing."""


@dataclass(frozen=True, eq=False)
class SoundEmbedding:
    """A sound as its encoder hears it: f_a [dim] of its own length, its loudness in LUFS, and where both come
    from: the sound's name, its hash and the encoder's name.

    `labels` and `label_vectors` [L, dim] are the words that the encoder knows, in f_a's space: what another
    space's words can be fitted on. An encoder that is not aligned yet has none.
    """

    f_a: Tensor
    loudness: float
    sound: str
    encoder: str
    labels: list[str] = field(default_factory=list)
    label_vectors: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    hash: str = ""


class SoundEncoder(Protocol):
    """Sounds as vectors in the text encoder's space, of length one, or of the length that they have there.

    It hears `seconds` at a time at `rate` Hz. `labels` and `label_vectors` [L, dim] are the words that it
    knows (none before it is aligned: [] and [0, dim]); `tau` is the temperature of their scores. `space`
    names the text encoder whose space it is, "" where that is not known. `notes` tell where it comes from.

    A family that also sees has `embed_images(images [B, 3, H, W] in [0, 1]) -> [B, dim]`; CLAP's have not:
    `hasattr` tells. Pictures are found for them through the CLIP of `space`.
    """

    name: str
    rate: int
    seconds: float
    dim: int
    labels: list[str]
    label_vectors: Tensor
    tau: float
    space: str
    notes: dict[str, str]

    def embed(self, sounds: list[Sound], *, own_length: bool = False) -> Tensor:
        """[B, dim] of length one; with `own_length` as long as the features are before that, for eq. 6 to the
        letter. CLAP's model, and a bridge, give nothing but length one."""


def windows(sound: Sound, rate: int, seconds: float) -> list[Tensor]:
    """A sound as mono waveforms [up to rate * seconds] at `rate`; the last one is left out when it is shorter
    than a quarter of a whole one and not alone."""
    waveform = sound.mono().resample(rate).waveform[0]
    size = round(seconds * rate)
    parts = list(waveform.split(size))
    return parts[:-1] if len(parts) > 1 and len(parts[-1]) < size // 4 else parts


class CAVMAEEncoder:
    """CAV-MAE as a SoundEncoder: mean over tokens, then length one, as its retrieval does.

    A sound is mixed to mono (the mean of its channels: CAV-MAE's own loader takes the first, and a sound
    that is panned to the right would be silence), resampled to `rate`, and cut into windows of `seconds`
    (the last one padded with silence, and left out when it is shorter than a quarter; CAV-MAE pads the
    filter bank with zeros instead, which is a loud noise); a sound's embedding is the mean over its windows,
    of length one. Its level is not normalised: loudness reaches the embedding.
    """

    family = "cavmae"

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
        """Sounds of any rate, channel count and length to [B, dim] of length one; `first_window` hears no
        more than their first `seconds`, as CAV-MAE does. With `own_length` they are as long as their windows'
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
        size = self.model.config.image_size
        images = images.float()
        height, width = images.shape[-2:]
        if (height, width) != (size, size):
            # Cut off, not rounded, and cropped as torchvision does, through which CAV-MAE sees.
            shape = [side * size // min(height, width) for side in (height, width)]
            images = F.interpolate(images, shape, mode="bicubic", antialias=True).clamp(0, 1)
            top, left = (round((side - size) / 2) for side in shape)
            images = images[..., top : top + size, left : left + size]
        mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
        for part in images.cpu().split(64):
            yield ((part - mean) / std).to(self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What only this family's files hold: weights, and settings."""
        return self.model.state_dict(), {"config": json.dumps(asdict(self.model.config))}

    @classmethod
    def restore(
        cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str, **common
    ) -> CAVMAEEncoder:
        """What `state` gave, as an encoder again; `common` is what every family's files hold."""
        model = CAVMAE(CAVMAEConfig(**json.loads(settings["config"])))
        model.take(weights, file)
        return cls(model.requires_grad_(False), **common)


def hear(encoder: SoundEncoder, sound: Sound, name: str = "") -> SoundEmbedding:
    """One sound through an encoder, with its loudness.

    Raises InputError for silence (no part of it above BS.1770's gate of -70 LUFS) and for less than
    SHORTEST seconds.
    """
    called = f"“{name}”" if name else "The sound"
    if sound.seconds < SHORTEST:
        raise InputError(
            f"{called} lasts {sound.seconds:.2f} s, too short to hear: take {SHORTEST:g} s or more."
        )
    level = loudness(sound)
    if level == SILENCE:
        raise InputError(
            f"{called} is silent (below -70 LUFS): choose a part with sound in it, or make it louder."
        )
    if len(sound.waveform) > 1 and loudness(sound.mono()) == SILENCE:
        raise InputError(
            f"{called} has channels that cancel each other out when they are mixed: take one of them alone."
        )
    f_a = encoder.embed([sound], own_length=True)[0].cpu()
    return SoundEmbedding(
        f_a,
        level,
        name or sound_hash(sound)[:12],
        encoder.name,
        list(encoder.labels),
        encoder.label_vectors.float().cpu(),
        sound_hash(sound),
    )


def nearest_words(encoder: SoundEncoder, embeddings: Tensor, k: int = 5) -> list[list[tuple[str, float]]]:
    """The k labels nearest to each of [B, dim], with scores that add up to 1 over all labels; none from an
    encoder without labels."""
    cosine = F.normalize(embeddings.float().cpu(), dim=-1) @ encoder.label_vectors.float().cpu().T
    scores, rows = (cosine / encoder.tau).softmax(-1).topk(min(k, len(encoder.labels)), dim=-1)
    return [
        [(encoder.labels[i], float(s)) for i, s in zip(row, score)]
        for row, score in zip(rows.tolist(), scores.tolist())
    ]


def save(
    encoder: SoundEncoder, path: str | os.PathLike, dtype: torch.dtype = torch.float16, **notes: str
) -> None:
    """Writes an encoder in one move; `notes` (how it was made) join its own in the metadata.

    Raises InputError for a family that has no file of its own, and where the disk does not take it.
    """
    from safetensors.torch import save

    if not hasattr(encoder, "state"):
        raise InputError(
            f"“{encoder.name}” is in no text encoder's space yet, and its folder keeps it: bridge it, "
            "then save that."
        )
    weights, settings = encoder.state()
    # Copies: a block that both modalities share stands under two names, and safetensors takes no aliases.
    tensors = {
        f"model.{k}": v.detach()
        .to("cpu", dtype if v.is_floating_point() else v.dtype, copy=True)
        .contiguous()
        for k, v in weights.items()
    }
    tensors["label_vectors"] = encoder.label_vectors.float().cpu().contiguous()
    metadata = {
        **encoder.notes,
        **notes,
        **settings,
        "format": FORMAT,
        "family": encoder.family,
        "name": encoder.name,
        "labels": json.dumps(encoder.labels),
        "tau": str(encoder.tau),
        "space": encoder.space,
    }
    files.write(path, save(tensors, metadata), "The sound encoder")


def is_ours(path: str | os.PathLike) -> bool:
    """Whether a file is a sound encoder that this package wrote."""
    return files.metadata(path).get("format") == FORMAT


def load(path: str | os.PathLike) -> SoundEncoder:
    """Reads an encoder: a file that `save` wrote, a public CAV-MAE file (.pth or safetensors), or the folder
    of a CLAP as transformers keeps it.

    The last two are not aligned yet: they have no words. Raises InputError for a missing file, one that is
    none of these, and one that lacks weights.
    """
    path = Path(path)
    if is_dir(path):
        from .clap import load_folder

        return load_folder(path)[0]
    if not is_file(path):
        raise InputError(
            f"There is no sound encoder “{path}”: check its name, or use SoundWorld's. {SOURCES}"
        )
    if path.suffix.lower() in (".pth", ".pt", ".bin", ".ckpt"):
        from .checkpoint import load_published

        return load_published(path)
    tensors, metadata = _read(path)
    if metadata.get("format") != FORMAT:
        from .checkpoint import load_published

        return load_published(path)
    return _ours(tensors, metadata, path.name)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"“{path.name}” is no readable safetensors file ({error}): convert it, others are never opened."
        ) from error
    # Copies: a tensor holds its file open, which Windows then lets nobody replace.
    kinds = {k: torch.float32 if v.is_floating_point() else v.dtype for k, v in tensors.items()}
    return {k: v.to(kinds[k], copy=True) for k, v in tensors.items()}, metadata


def _ours(tensors: dict[str, Tensor], metadata: dict[str, str], file: str) -> SoundEncoder:
    from .bridge import BridgedCLAP

    families = {family.family: family for family in (CAVMAEEncoder, BridgedCLAP)}
    family = families.get(metadata.get("family", ""))
    if family is None or "label_vectors" not in tensors:
        raise InputError(
            f"“{file}” holds a sound encoder of the family “{metadata.get('family')}”, not one of "
            f"{', '.join(families)}: take a newer version of this pack, or another file."
        )
    vectors = tensors.pop("label_vectors")
    weights = {key.removeprefix("model."): value for key, value in tensors.items()}
    try:
        common = dict(
            labels=json.loads(metadata["labels"]),
            tau=float(metadata["tau"]),
            name=metadata["name"],
            space=metadata.get("space", ""),
            notes={k: v for k, v in metadata.items() if k not in SETTINGS},
        )
        if len(vectors) != len(common["labels"]):
            raise InputError(
                f"“{file}” names {len(common['labels'])} labels but holds vectors of shape "
                f"{tuple(vectors.shape)}: save or download it again."
            )
        encoder = family.restore(weights, metadata, file, label_vectors=vectors, **common)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"“{file}” has settings that cannot be read ({error}): save or download it again."
        ) from error
    if vectors.shape[1] != encoder.dim:
        raise InputError(
            f"“{file}” holds vectors of shape {tuple(vectors.shape)} for sounds of {encoder.dim} numbers: "
            "save or download it again."
        )
    return encoder
