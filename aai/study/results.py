"""A study's results: pictures of one condition, one sound and one seed, drawn and scored once and kept in a
folder."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import files, image
from ..adapt.settings import TrainSettings
from ..adapt.train import TrainResult, train_token
from ..charts import save
from ..errors import InputError
from ..picture.model import Conditioning
from ..prompt import Prompt
from ..token import SoundToken
from .setting import Setting
from .subject import Subject

Tick = Callable[[str], None]
"""Called with the name of each result once it is there; may raise to cancel."""


@dataclass(frozen=True, eq=False)
class Result:
    """Pictures [N, 3, H, W] of a condition, a sound (its label) and a seed, and their values by measure."""

    condition: str
    subject: str
    seed: int
    pictures: Tensor
    values: dict[str, list[float]]


class Results:
    """The results in a folder: `folder/cells/NAME.json` and `.png`.

    Raises InputError where the folder holds a study with other `settings`: its results would be mixed.
    """

    def __init__(self, folder: str | os.PathLike, settings: Mapping[str, object]):
        self.folder = Path(folder) / "cells"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"There can be no folder '{folder}' ({error.strerror}): choose another with -o."
            ) from error
        files.check_same_settings(self.folder / "settings.json", settings)

    def get(self, condition: str, subject: Subject, seed: int) -> Result | None:
        """A result that is stored already."""
        path = self._path(condition, subject, seed)
        if not path.is_file():
            return None
        notes = json.loads(path.read_text(encoding="utf-8"))
        strip = image.load(path.with_suffix(".png"))
        pictures = torch.stack(strip.chunk(notes["pictures"], dim=2))
        return Result(condition, subject.label, seed, pictures, notes["values"])

    def put(self, condition: str, subject: Subject, seed: int, pictures: Tensor, setting: Setting) -> Result:
        """Scores pictures and stores them; a result is there once its .json is."""
        pictures = pictures.cpu()
        values = setting.scores(pictures, subject)
        path = self._path(condition, subject, seed)
        strip = io.BytesIO()
        image.to_pil(torch.cat(list(pictures), dim=2)).save(strip, format="PNG")
        files.write(path.with_suffix(".png"), strip.getvalue(), "The study's pictures")
        notes = {"condition": condition, "subject": subject.label, "seed": seed, "pictures": len(pictures)}
        files.write(path, json.dumps({**notes, "values": values}).encode(), "The study's figures")
        return Result(condition, subject.label, seed, pictures, values)

    def _path(self, condition: str, subject: Subject, seed: int) -> Path:
        words = f"{subject.label} {condition} {seed}"
        # Labels that differ in case or marks alone would share a file.
        own = hashlib.sha256(words.encode()).hexdigest()[:8]
        plain = "".join(c if c.isalnum() else " " for c in words.casefold()).split()
        return self.folder / f"{'-'.join(plain)}-{own}.json"


def draw(
    setting: Setting, prompt: str, tokens: Sequence[SoundToken], seed: int, count: int, batch: int = 4
) -> Tensor:
    """`count` pictures [N, 3, H, W] in [0, 1] of a prompt; each study seed has noises of its own."""
    cond = setting.model.encode_prompt(Prompt(prompt, tuple(tokens)))
    return draw_from(setting, cond, seed, count, batch)


def draw_from(setting: Setting, cond: Conditioning, seed: int, count: int, batch: int = 4) -> Tensor:
    """`draw`, of what a prompt is encoded to."""
    uncond = setting.model.encode_prompt(Prompt(""))
    pictures = []
    for part in torch.arange(1000 * seed, 1000 * seed + count).split(batch):
        latents = setting.model.sample(
            cond, uncond, seeds=part.tolist(), steps=setting.sampling_steps, guidance=setting.guidance
        )
        pictures.append(setting.model.decode(latents).clamp(0, 1).cpu())
    return torch.cat(pictures)


def sound_token(
    setting: Setting, f_a: Tensor, pictures: Tensor, settings: TrainSettings, snapshots: Sequence[int] = ()
) -> dict[int, SoundToken]:
    """Tokens by eq. 6 after each of `snapshots` steps (none: after the last), none of them chosen by its
    loss."""
    wanted = snapshots or (settings.steps,)
    kept: dict[int, SoundToken] = {}

    def keep(result: TrainResult) -> None:
        if len(result.losses) in wanted:
            kept[len(result.losses)] = result.token

    every = math.gcd(*wanted)
    # The encoder's words tell how a sound enters text encoders that it was not aligned with.
    table = setting.encoder.labels, setting.encoder.label_vectors
    train_token(setting.model, f_a, pictures, settings, "sound", watch=keep, watch_every=every, table=table)
    return kept


def textual_inversion(setting: Setting, f_a: Tensor, pictures: Tensor, settings: TrainSettings) -> SoundToken:
    """The same training without the sound: e = f_adapter alone, free, from a random word (textual
    inversion)."""
    # A sound of no length: eq. 6 to the letter adds nothing to f_adapter.
    nothing = f_a * (1e-9 / f_a.norm())
    free = replace(settings, scale="raw", rho=None, init=1.0)
    made = sound_token(setting, nothing, pictures, free)[free.steps]
    return SoundToken(made.name, made.vectors, provenance=made.provenance)


def slug(name: str) -> str:
    """A measure's name as part of a file's."""
    return "".join(c if c.isalnum() else "_" for c in name.casefold()).strip("_")


def save_sheet(picture: Image.Image, folder: Path, name: str) -> str:
    save(picture, folder / name)
    return name
