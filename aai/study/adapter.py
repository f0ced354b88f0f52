"""What the adapter and the sound each carry (4.5, Fig. 6): f_a taken away or exchanged, other references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..adapt.train import TrainSettings
from .ablation import about
from .conditions import collect, report
from .results import Results, Tick, draw, sound_token, textual_inversion
from .setting import Setting
from .subject import Subject

OURS = "with f_a"
WITHOUT = "without f_a"
MATE = "a class-mate's sound"
STRANGER = "a stranger's sound"
OTHER = "other references"
CONDITIONS = (OURS, WITHOUT, MATE, STRANGER, OTHER)
"""Eq. 6 as it is; e = f_adapter, which is textual inversion; the trained adapter with another sound of the
class (Fig. 6b), and with one of another class; the same sound with the next nearest pictures (Fig. 6a)."""


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
    """Draws, scores and writes the study; returns what report.json holds."""
    settings = settings or TrainSettings()
    metadata = {
        "study": "adapter",
        "setting": setting.name,
        "steps": settings.steps,
        "references": k,
        "pictures": count,
        **about(setting, settings),
    }
    subjects = list(setting.subjects)
    strangers = {s.label: subjects[i - 1] for i, s in enumerate(subjects)} if len(subjects) > 1 else {}

    def pictures(subject: Subject, seed: int, missing: Sequence[str]) -> dict[str, Tensor]:
        trained = replace(settings, seed=seed)
        nearest = setting.references(subject, k, 0)
        tokens = {}
        if {OURS, MATE, STRANGER} & set(missing):
            tokens[OURS] = sound_token(setting, subject.f_a, nearest, trained)[trained.steps]
            if subject.mate is not None:
                tokens[MATE] = tokens[OURS].with_sound(subject.mate)
            if subject.label in strangers:
                tokens[STRANGER] = tokens[OURS].with_sound(strangers[subject.label].f_a)
        if WITHOUT in missing:
            tokens[WITHOUT] = textual_inversion(setting, subject.f_a, nearest, trained)
        if OTHER in missing:
            others = setting.references(subject, k, k)
            tokens[OTHER] = sound_token(setting, subject.f_a, others, trained)[trained.steps]
        return {
            name: draw(setting, settings.template, [tokens[name]], seed, count)
            for name in missing
            if name in tokens
        }

    results = collect(setting, Results(folder, metadata), seeds, CONDITIONS, pictures, tick)
    measures = [measure for scorer in setting.scorers for measure in scorer.measures]
    of_sound = {measure.name for measure in measures if measure.of_sound}
    results = [
        replace(one, values={name: v for name, v in one.values.items() if name not in of_sound})
        if one.condition in (MATE, STRANGER)
        else one
        for one in results
    ]
    return report(
        setting,
        folder,
        results,
        title="What the adapter and the sound carry",
        conditions=CONDITIONS,
        pairs=[(OURS, WITHOUT), (MATE, STRANGER), (OURS, MATE), (OURS, OTHER)],
        metadata={**metadata, "seeds": seeds},
        first=("references", lambda subject: setting.references(subject, k, 0)),
    )
