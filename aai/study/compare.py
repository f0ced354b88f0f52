"""The comparison of Fig. 5: the class in words, textual inversion of the references, and the sound token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from .. import audio
from ..adapt.train import TrainSettings
from .ablation import about
from .conditions import collect, report
from .results import Results, Tick, draw, sound_token, textual_inversion
from .setting import Setting
from .subject import Subject

TEXT, INVERSION, OURS = "text only", "textual inversion", "ours"
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
) -> dict:
    """Draws, scores and writes the study; returns what report.json holds. The user study is made
    of its results."""
    settings = settings or TrainSettings()
    metadata = {
        "study": "compare",
        "setting": setting.name,
        "steps": settings.steps,
        "references": k,
        "pictures": count,
        **about(setting, settings),
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
        return drawn

    store = Results(folder, metadata)
    _keep_sounds(setting, folder)
    results = collect(setting, store, seeds, CONDITIONS, pictures, tick)
    return report(
        setting,
        folder,
        results,
        title="Text, textual inversion, and the sound",
        conditions=CONDITIONS,
        pairs=[(OURS, INVERSION), (OURS, TEXT), (INVERSION, TEXT)],
        metadata={**metadata, "seeds": seeds},
        first=("references", lambda subject: setting.references(subject, k, 0)),
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
