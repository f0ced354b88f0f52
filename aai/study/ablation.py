"""How many references, how many steps (4.5 and Fig. 10): {100, 300, 500, 1000, 3000} steps x {1, 3, 5}
pictures.

One training for each number of references and seed, its token taken at each number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..adapt.train import TrainSettings
from ..charts import Cell, Line, Row, contact_sheet, plot
from ..encoders.fingerprint import fingerprint
from . import figures
from .results import Result, Results, Tick, draw, save_sheet, slug, sound_token
from .setting import Setting

STEPS = (100, 300, 500, 1000, 3000)
REFERENCES = (1, 3, 5)


def run(
    setting: Setting,
    folder: Path,
    *,
    seeds: int = 3,
    steps: Sequence[int] = STEPS,
    references: Sequence[int] = REFERENCES,
    count: int = 4,
    settings: TrainSettings | None = None,
    tick: Tick = lambda name: None,
) -> dict:
    """Draws, scores and writes the study; returns what report.json holds. `count` pictures a result."""
    settings, steps = settings or TrainSettings(), sorted(steps)
    metadata = {"study": "references", "setting": setting.name, "pictures": count, **about(setting, settings)}
    results = list(_draw(setting, Results(folder, metadata), seeds, steps, references, count, settings, tick))
    return _report(setting, folder, results, steps, references, {**metadata, "seeds": seeds})


def about(setting: Setting, settings: TrainSettings) -> dict[str, object]:
    """What results of one folder must have in common, besides the subjects: a study may be given more."""
    encoder = setting.encoder
    weights = encoder.state()[0].values()
    return {
        "model": setting.model.fingerprint,
        "encoder": f"{encoder.name} {fingerprint([encoder.label_vectors, *weights], encoder.name)}",
        "data": setting.data,
        "measures": "; ".join(measure.name for scorer in setting.scorers for measure in scorer.measures),
        "batch": settings.batch,
        "rate": settings.rate,
        "rho": settings.rho,
        "sampling steps": setting.sampling_steps,
        "guidance": setting.guidance,
    }


def name_of(k: int, step: int) -> str:
    return f"{k} reference{'s' if k > 1 else ''}, {step} steps"


def _draw(setting, results: Results, seeds, steps, references, count, settings, tick):
    for subject in setting.subjects:
        for seed in range(seeds):
            for k in references:
                stored = {step: results.get(name_of(k, step), subject, seed) for step in steps}
                missing = [step for step in steps if stored[step] is None]
                if missing:
                    training = replace(settings, steps=missing[-1], seed=seed)
                    pictures = setting.references(subject, k, 0)
                    tokens = sound_token(setting, subject.f_a, pictures, training, missing)
                    for step in missing:
                        drawn = draw(setting, settings.template, [tokens[step]], seed, count)
                        stored[step] = results.put(name_of(k, step), subject, seed, drawn, setting)
                for step in steps:
                    tick(f"{subject.label}, {name_of(k, step)}, seed {seed}")
                    yield stored[step]


def _report(setting, folder: Path, results: list[Result], steps, references, metadata) -> dict:
    measures = [measure for scorer in setting.scorers for measure in scorer.measures]
    names = [name_of(k, step) for k in references for step in steps]
    sheets = []
    for subject in setting.subjects:
        first = {c.condition: c for c in results if c.subject == subject.label and c.seed == 0}
        rows = [
            Row(
                f"{k} reference{'s' if k > 1 else ''}",
                [Cell(first[name_of(k, step)].pictures[:2]) for step in steps],
            )
            for k in references
        ]
        title = f"{subject.label[0].upper()}{subject.label[1:]}: references and steps"
        sheet = contact_sheet(
            title, "one sound, two noises, seed 0", rows, [f"{step} steps" for step in steps], 96
        )
        sheets.append(save_sheet(sheet, folder, f"sheet_{subject.label.replace(' ', '_')}.png"))
    for measure in measures:
        lines = []
        for k in references:
            by_step = [(s, figures.figure(results, name_of(k, s), measure)) for s in steps]
            points = [(s, f.value, f.low, f.high) for s, f in by_step if f]
            if points:
                lines.append(Line(f"{k} reference{'s' if k > 1 else ''}", points))
        if not lines:
            continue
        drawn = plot(
            f"{measure.name[0].upper()}{measure.name[1:]}: references and steps",
            figures.counted(setting, metadata["seeds"]),
            lines,
            x_label="training steps",
            y_label=measure.text,
            log_x=True,
            y_range=(0.0, 1.0) if measure.yes_or_no else None,
        )
        sheets.append(save_sheet(drawn, folder, f"plot_{slug(measure.name)}.png"))
    most, fewest = steps[-1], steps[0]
    pairs = [(name_of(k, most), name_of(k, fewest)) for k in references if most != fewest]
    pairs += [(name_of(references[-1], s), name_of(references[0], s)) for s in steps if len(references) > 1]
    comparisons, words = figures.compare_all(results, pairs, measures)
    text = figures.table("References and steps", names, measures, results)
    rows = [figures.figure(results, name, measure) for name in names for measure in measures]
    return figures.write(folder, metadata, text, rows, comparisons, sheets, words)
