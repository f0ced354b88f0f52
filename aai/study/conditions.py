"""What the adapter study and the comparison share: conditions drawn for every sound and seed, and shown
side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ..charts import Cell as Shown
from ..charts import Row, bars, contact_sheet
from . import figures
from .results import Cell, Cells, Tick, save_sheet
from .setting import Setting
from .subject import Subject

Draw = Callable[[Subject, int, Sequence[str]], dict[str, Tensor]]
"""draw(subject, seed, conditions) -> {condition: pictures}; one that a subject cannot have is left out."""


def collect(
    setting: Setting, cells: Cells, seeds: int, conditions: Sequence[str], draw: Draw, tick: Tick
) -> list[Cell]:
    """Every cell, drawn or found."""
    found = []
    for subject in setting.subjects:
        for seed in range(seeds):
            held = {name: cells.get(name, subject, seed) for name in conditions}
            missing = [name for name in conditions if held[name] is None]
            for name, pictures in draw(subject, seed, missing).items() if missing else ():
                held[name] = cells.put(name, subject, seed, pictures, setting)
            for name in conditions:
                tick(f"{subject.label}, {name}, seed {seed}")
                if held[name] is not None:
                    found.append(held[name])
    return found


def report(
    setting: Setting,
    folder: Path,
    cells: Sequence[Cell],
    *,
    title: str,
    conditions: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    told: dict,
    shown: int = 3,
    first: tuple[str, Callable[[Subject], Tensor]] | None = None,
) -> dict:
    """The sheet, a bar chart for each share, the table, and `pairs` (better, worse) compared; `first` is a
    column of pictures before the conditions."""
    rows = []
    for subject in setting.subjects:
        own = {c.condition: c for c in cells if c.subject == subject.label and c.seed == 0}
        columns = [Shown(first[1](subject)[:shown])] if first else []
        columns += [Shown(own[name].pictures[:shown] if name in own else ()) for name in conditions]
        strength = "" if subject.intensity is None else f"strength {subject.intensity:.2f}"
        rows.append(Row(subject.label, columns, strength))
    heads = [*([first[0]] if first else []), *conditions]
    sheets = [save_sheet(contact_sheet(title, setting.name, rows, heads, 96), folder, "sheet.png")]
    measures = [measure for judge in setting.judges for measure in judge.measures]
    for measure in measures:
        found = [figures.figure(cells, name, measure) for name in conditions]
        if measure.yes_or_no and any(found):
            drawn = bars(
                title,
                f"{measure.text}; {figures.counted(setting, told['seeds'])}",
                [(f.condition, f.value, f.low, f.high) for f in found if f],
            )
            sheets.append(save_sheet(drawn, folder, f"bars_{figures.slug(measure.name)}.png"))
    comparisons, words = figures.compare_all(cells, pairs, measures)
    text = figures.table(title, conditions, measures, cells)
    rows = [figures.figure(cells, name, measure) for name in conditions for measure in measures]
    return figures.write(folder, told, text, rows, comparisons, sheets, words)
