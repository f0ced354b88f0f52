"""What a study asks about: a sound, its class, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .. import audio


@dataclass(frozen=True, eq=False)
class Subject:
    """A sound of a study: its class in words, which no other has; its name; f_a [d]; f_a of another sound of
    its class, where there is one; its own frame [3, H, W], where there is one; on SoundWorld how strong the
    event is; and its class's folder, where another class has a sound of its name (`dog/1.wav`, `rain/1.wav`),
    else ""."""

    label: str
    name: str
    sound: audio.Sound
    f_a: Tensor
    mate: Tensor | None = None
    frame: Tensor | None = None
    intensity: float | None = None
    folder: str = ""
