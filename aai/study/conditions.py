"""What the adapter study and the comparison share: conditions drawn for every sound and seed, and shown
side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ..charts import Cell, Row, bars, contact_sheet
from . import figures
from .results import Result, Results, Tick, save_sheet, slug
from .setting import Setting
from .subject import Subject

Draw = Callable[[Subject, int, Sequence[str]], dict[str, Tensor]]
"""draw(subject, seed, conditions) -> {condition: pictures}; one that a subject cannot have is left out."""


def collect(
    setting: Setting, store: Results, seeds: int, conditions: Sequence[str], draw: Draw, tick: Tick
) -> list[Result]:
    """Every result: read from the folder, or drawn, scored and stored there."""
    collected = []
    for subject in setting.subjects:
        for seed in range(seeds):
            stored = {name: store.get(name, subject, seed) for name in conditions}
            missing = [name for name in conditions if stored[name] is None]
            for name, pictures in draw(subject, seed, missing).items() if missing else ():
                stored[name] = store.put(name, subject, seed, pictures, setting)
            for name in conditions:
                tick(f"{subject.label}, {name}, seed {seed}")
                if stored[name] is not None:
                    collected.append(stored[name])
    return collected


def report(
    setting: Setting,
    folder: Path,
    results: Sequence[Result],
    *,
    title: str,
    conditions: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    metadata: dict,
    shown: int = 3,
    first: tuple[str, Callable[[Subject], Tensor]] | None = None,
) -> dict:
    """The sheet, a bar chart for each share, the table, and `pairs` (better, worse) compared; `first` is a
    column of pictures before the conditions."""
    rows = []
    for subject in setting.subjects:
        own = {c.condition: c for c in results if c.subject == subject.label and c.seed == 0}
        columns = [Cell(first[1](subject)[:shown])] if first else []
        columns += [Cell(own[name].pictures[:shown] if name in own else ()) for name in conditions]
        strength = "" if subject.intensity is None else f"strength {subject.intensity:.2f}"
        rows.append(Row(subject.label, columns, strength))
    heads = [*([first[0]] if first else []), *conditions]
    sheets = [save_sheet(contact_sheet(title, setting.name, rows, heads, 96), folder, "sheet.png")]
    measures = [measure for scorer in setting.scorers for measure in scorer.measures]
    for measure in measures:
        shares = [figures.figure(results, name, measure) for name in conditions]
        if measure.yes_or_no and any(shares):
            drawn = bars(
                title,
                f"{measure.text}; {figures.counted(setting, metadata['seeds'])}",
                [(f.condition, f.value, f.low, f.high) for f in shares if f],
            )
            sheets.append(save_sheet(drawn, folder, f"bars_{slug(measure.name)}.png"))
    comparisons, words = figures.compare_all(results, pairs, measures)
    text = figures.table(title, conditions, measures, results)
    rows = [figures.figure(results, name, measure) for name in conditions for measure in measures]
    return figures.write(folder, metadata, text, rows, comparisons, sheets, words)
