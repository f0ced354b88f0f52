"""Public sound towers that were trained into the joint space of a CLIP, where its texts and pictures are.

They are what the paper compares with: Wav2CLIP (`wav2clip.py`), SGSIM's (`sgsim.py`) and AudioCLIP
(`audioclip.py`). The space is that behind CLIP's projections, not that of a picture model's text encoder;
with a table of labels that the CLIP has read (`name_words`) their sounds are translated as CLAP's are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound, windows
from ..errors import InputError
from .clip import CLIP, fetch_clip
from .known import Known
from .published import fill
from .text import TextTower, label_vectors

TAU = 0.01
"""CLIP's own temperature: its logits are 100 times the cosines."""


class CLIPSpaceEncoder:
    """A sound tower in a CLIP's joint space as a SoundEncoder.

    A sound is mixed to mono, resampled to `rate` and cut into windows of `seconds` as for CAV-MAE; its
    embedding is the mean over its windows' directions, of length one. `tower` takes a window as [1, T].

    A family says how its tower is made (`build`), what its public file is called (`whose`), the licence that
    it has, and the CLIP of its space: its name and the sizes by which another is told apart.
    """

    family: str
    sees = False
    presence = None
    rate: int
    seconds: float
    dim = 512
    title: str
    whose: str
    licence: str
    space = "openai/clip-vit-base-patch32"
    patch: int | None = 32

    def __init__(
        self,
        tower: nn.Module,
        labels: Sequence[str] = (),
        label_vectors: Tensor | None = None,
        tau: float = TAU,
        name: str = "",
        space: str = "",
        notes: Mapping[str, str] | None = None,
        known: Known | None = None,
    ):
        self.tower, self.labels = tower.eval().requires_grad_(False), list(labels)
        vectors = torch.zeros(0, self.dim) if label_vectors is None else label_vectors
        self.label_vectors, self.tau = F.normalize(vectors.float(), dim=-1), tau
        self.name, self.space, self.known = name or self.title, space or type(self).space, known
        self.notes = {"licence": self.licence, **(notes or {})}

    @classmethod
    def build(cls) -> nn.Module:
        """The tower, with random weights under the names of the public file."""
        raise NotImplementedError

    @classmethod
    def published(cls, tensors: Mapping[str, Tensor], file: str) -> CLIPSpaceEncoder:
        """An encoder of a public file's tensors; it has no words yet. Raises InputError as `fill` does."""
        tower = cls.build()
        fill(tower, tensors, file, cls.whose)
        return cls(tower, notes={"source": file})

    @classmethod
    def restore(
        cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str, **common
    ) -> CLIPSpaceEncoder:
        """An encoder from its `state`; `common` is what the files of every family hold. Raises InputError as
        `fill` does."""
        tower = cls.build()
        fill(tower, weights, file, cls.whose)
        return cls(tower, **common)

    @property
    def device(self) -> torch.device:
        return next(self.tower.parameters()).device

    def to(self, device: torch.device | str) -> CLIPSpaceEncoder:
        self.tower.to(device)
        return self

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """This family's own weights, as its files hold them; all else of it is in its class."""
        return self.tower.state_dict(), {}

    @torch.no_grad()
    def embed(self, sounds: Iterable[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one, the only one they have
        here."""
        rows = [torch.zeros(0, self.dim)]
        for sound in sounds:
            parts = windows(sound, self.rate, self.seconds)
            seen = torch.cat([self.tower(part[None].to(self.device)).float().cpu() for part in parts])
            rows.append(F.normalize(F.normalize(seen, dim=-1).mean(0, keepdim=True), dim=-1))
        return torch.cat(rows)

    def text_tower(self, source: str | os.PathLike) -> TextTower:
        """What reads labels into this space: the CLIP in a folder or of a hub name. Raises InputError where
        there is none, and for another CLIP than that of the space."""
        return JointText(self.clip(source))

    def clip(self, source: str | os.PathLike) -> CLIP:
        """The CLIP of this space, which sees pictures too. Raises InputError as `text_tower` does."""
        clip = fetch_clip(str(source))
        sizes = clip.model.config.projection_dim, clip.model.config.vision_config.patch_size
        if sizes != (self.dim, self.patch):
            raise InputError(
                f"{self.title} is in the space of {self.space} ({self.dim} numbers, patches of "
                f"{self.patch}), but '{source}' holds a CLIP of {sizes[0]} and {sizes[1]}: give that one."
            )
        return clip


class JointText:
    """A CLIP's texts in its joint space, behind the projection, as a TextTower."""

    def __init__(self, clip: CLIP):
        self.clip, self.name = clip, clip.name
        self.dim = clip.model.config.projection_dim

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim] of length one."""
        parts = [texts[begin : begin + 64] for begin in range(0, len(texts), 64)]
        return torch.cat([torch.zeros(0, self.dim), *(self.clip.embed_text(part) for part in parts)])


def name_words(encoder: CLIPSpaceEncoder, tower: TextTower, labels: Sequence[str]) -> None:
    """Gives an encoder these labels as its words, in place, as the CLIP of its space reads them."""
    encoder.labels, encoder.label_vectors = list(labels), label_vectors(tower, list(labels)).cpu()
