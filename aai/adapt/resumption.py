"""Whether a stopped training of an adapter goes on, told by what is known before a library is encoded."""

from __future__ import annotations

from ..errors import InputError
from .universal import SoundAdapter
from .universal_settings import AdapterSettings


def check_alike(resume: SoundAdapter, settings: AdapterSettings, encoder: str, model: str, data: str) -> None:
    """Raises InputError where a training was begun otherwise: with another encoder or picture model (their
    fingerprints), other settings or other data (its digest)."""
    if not resume.training:
        raise InputError(
            f"The adapter '{resume.name}' holds no training's state: go on from that of a training, or begin "
            "anew."
        )
    if (encoder, model) != (resume.encoder, resume.model):
        raise InputError(
            f"The adapter '{resume.name}' was begun with the sound encoder '{resume.encoder_name}' and a "
            f"picture model of {resume.base}: go on with the same, or begin anew."
        )
    # Of before there was `near`.
    begun = {"near": 0.0, **resume.settings}
    for name, value in {**settings.as_begun(), "data": data}.items():
        if begun.get(name) != value:
            what = "other data" if name == "data" else f"{name} {begun.get(name)}, not {value}"
            raise InputError(
                f"The adapter '{resume.name}' was begun with {what}: go on with the same, or begin anew."
            )


def check_steps_left(resume: SoundAdapter, settings: AdapterSettings) -> None:
    """Raises InputError where all the steps that are asked for are done."""
    if resume.steps >= settings.steps:
        raise InputError(
            f"The adapter '{resume.name}' has {resume.steps} steps behind it already: ask for more than "
            f"{settings.steps}."
        )
