"""The comparison of Fig. 5: the class in words, textual inversion of the references, and the sound token;
where its files are there, GlueNet's states too, which no paper has beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from .. import audio
from ..adapt.train import TrainSettings
from ..encoders.gluenet import GlueNet
from ..errors import InputError
from ..picture.model import Conditioning
from .ablation import about
from .conditions import collect, report
from .results import Results, Tick, draw, draw_from, sound_token, textual_inversion
from .setting import Setting
from .subject import Subject

TEXT, INVERSION, OURS, GLUENET = "text only", "textual inversion", "ours", "GlueNet"
CONDITIONS = (TEXT, INVERSION, OURS)


def run(
    setting: Setting,
    folder: Path,
    *,
    seeds: int = 3,
    k: int = 4,
    count: int = 4,
    settings: TrainSettings | None = None,
    tick: Tick = lambda name: None,
    gluenet: GlueNet | None = None,
) -> dict:
    """Draws, scores and writes the study; returns what report.json holds. The user study is made
    of its results. `gluenet` adds a row of its pictures, which need no training. Raises InputError where its
    states are not the picture model's."""
    settings = settings or TrainSettings()
    if gluenet:
        _check_width(gluenet, setting)
    conditions = (*CONDITIONS, GLUENET) if gluenet else CONDITIONS
    metadata = {
        "study": "compare",
        "setting": setting.name,
        "steps": settings.steps,
        "references": k,
        "pictures": count,
        **about(setting, settings),
        **({"gluenet": gluenet.fingerprint} if gluenet else {}),
    }

    def pictures(subject: Subject, seed: int, missing: Sequence[str]) -> dict[str, Tensor]:
        trained, drawn = replace(settings, seed=seed), {}
        if TEXT in missing:
            prompt = settings.template.replace("*", subject.label)
            drawn[TEXT] = draw(setting, prompt, (), seed, count)
        if {INVERSION, OURS} & set(missing):
            nearest = setting.references(subject, k, 0)
        if INVERSION in missing:
            token = textual_inversion(setting, subject.f_a, nearest, trained)
            drawn[INVERSION] = draw(setting, settings.template, [token], seed, count)
        if OURS in missing:
            token = sound_token(setting, subject.f_a, nearest, trained)[trained.steps]
            drawn[OURS] = draw(setting, settings.template, [token], seed, count)
        if gluenet and GLUENET in missing:
            states = gluenet.states([subject.sound]).to(setting.model.device, setting.model.dtype)
            drawn[GLUENET] = draw_from(setting, Conditioning(states), seed, count)
        return drawn

    store = Results(folder, metadata)
    _keep_sounds(setting, folder)
    results = collect(setting, store, seeds, conditions, pictures, tick)
    return report(
        setting,
        folder,
        results,
        title="Text, textual inversion, and the sound",
        conditions=conditions,
        pairs=[(OURS, INVERSION), (OURS, TEXT), (INVERSION, TEXT), *([(OURS, GLUENET)] if gluenet else [])],
        metadata={**metadata, "seeds": seeds},
        first=("references", lambda subject: setting.references(subject, k, 0)),
    )


def _check_width(gluenet: GlueNet, setting: Setting) -> None:
    widths = setting.model.widths
    if list(widths.values()) != [gluenet.width]:
        raise InputError(
            f"GlueNet's states have {gluenet.width} numbers a word, but the picture model's words "
            f"{' and '.join(map(str, widths.values()))}: give a Stable Diffusion 1 with --model, or leave "
            "--gluenet out."
        )


def _keep_sounds(setting: Setting, folder: Path) -> None:
    """The sounds beside the results, for the user study to play: ten seconds of each."""
    for subject in setting.subjects:
        path = folder / "sounds" / f"{subject.label.replace(' ', '_')}.wav"
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = subject.sound.mono()
        audio.save(replace(sound, waveform=sound.waveform[:, : 10 * sound.rate]), path)
