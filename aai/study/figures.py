"""From cells to figures: means with 95 % intervals, differences of conditions, tables, and words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import files
from ..metrics import Share, student
from .results import Cell
from .scores import Measure
from .setting import Setting

ABOUT = (
    "Differences are of the same sound and seed. Their 95 % intervals are over the sounds, each the mean of "
    "its seeds, or over the seeds where there is one sound; *better* or *worse* where the interval lies "
    "wholly on that side. The intervals of shares are over the pictures, which share sounds and trainings: "
    "they say how sure a share is for these, not for others."
)
AGREEING = 6
"""So many differences that are all alike decide what their interval, of no width, cannot: by a sign test."""


@dataclass(frozen=True)
class Figure:
    """A measure's mean over `count` pictures of a condition, low to high its 95 % interval."""

    condition: str
    measure: str
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """A measure's mean difference, `better` less `worse`, of the same sounds and seeds, with its 95 %
    interval over `count` of `over` ("sounds", or "seeds" of the only one); `verdict` says whether `better` is
    better: confirmed, denied, or not decided."""

    better: str
    worse: str
    measure: str
    difference: float
    low: float
    high: float
    count: int
    over: str
    verdict: str


def slug(text: str) -> str:
    """A name as a part of a file's name: small letters, digits and _."""
    return "".join(c if c.isalnum() else "_" for c in text.casefold()).strip("_")


def counted(setting: Setting, seeds: int) -> str:
    """What stands below a plot's title."""
    return f"sounds: {len(setting.subjects)}, seeds: {seeds}, 95 % intervals"


def figure(cells: Sequence[Cell], condition: str, measure: Measure) -> Figure | None:
    """Wilson's interval for a share; for other means Student's over the cells, whose pictures share a
    training. None where the condition was not measured."""
    chosen = [c.values[measure.name] for c in cells if c.condition == condition and measure.name in c.values]
    if not chosen:
        return None
    values = [value for cell in chosen for value in cell]
    if measure.yes_or_no:
        share = Share(round(sum(values)), len(values))
        return Figure(condition, measure.name, share.value, *share.interval, len(values))
    low, high = student([float(np.mean(cell)) for cell in chosen] if len(chosen) > 1 else values)
    low, high = max(low, 0.0), min(high, measure.most)
    return Figure(condition, measure.name, float(np.mean(values)), low, high, len(values))


def compare(cells: Sequence[Cell], better: str, worse: str, measure: Measure) -> Comparison | None:
    """None where the two have no sound and seed in common."""
    means: dict[str, dict[tuple[str, int], float]] = {better: {}, worse: {}}
    for cell in cells:
        if cell.condition in means and measure.name in cell.values:
            means[cell.condition][cell.subject, cell.seed] = float(np.mean(cell.values[measure.name]))
    of_sound: dict[str, list[float]] = {}
    for key in means[better]:
        if key in means[worse]:
            of_sound.setdefault(key[0], []).append(means[better][key] - means[worse][key])
    if not of_sound:
        return None
    # The seeds of a sound share its embedding and its pictures: they are no sounds of their own.
    over = "sounds" if len(of_sound) > 1 else "seeds"
    alike = (
        [float(np.mean(d)) for d in of_sound.values()] if over == "sounds" else next(iter(of_sound.values()))
    )
    low, high = student(alike)
    towards = (low, high) if measure.more_is_better else (-high, -low)
    decides = len(alike) >= (2 if low < high else AGREEING)
    verdict = "not decided"
    if decides and towards[0] > 0:
        verdict = "confirmed"
    elif decides and towards[1] < 0:
        verdict = "denied"
    return Comparison(
        better, worse, measure.name, float(np.mean(alike)), low, high, len(alike), over, verdict
    )


def sentence(found: Sequence[Comparison]) -> str:
    """What all measures say of one pair of conditions."""
    groups: dict[str, list[str]] = {"confirmed": [], "denied": [], "not decided": []}
    for one in found:
        shown = f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        if one.low == one.high:
            shown = f"{one.difference:+.3f} in all" if one.difference else "no difference"
        groups[one.verdict].append(f"{one.measure} ({shown})")
    says = {"confirmed": "better by", "denied": "worse by", "not decided": "not decided by"}
    parts = [f"{says[verdict]} {', '.join(names)}" for verdict, names in groups.items() if names]
    over = f"{found[0].count} {found[0].over if found[0].count > 1 else found[0].over[:-1]}"
    return f"{found[0].better} against {found[0].worse}, {over}: {'; '.join(parts)}."


def compare_all(
    cells: Sequence[Cell], pairs: Sequence[tuple[str, str]], measures: Sequence[Measure]
) -> tuple[list[Comparison], list[str]]:
    """Every pair (better, worse) by every measure, and a sentence for each pair."""
    comparisons, words = [], []
    for better, worse in pairs:
        found = [compare(cells, better, worse, measure) for measure in measures]
        found = [one for one in found if one]
        comparisons += found
        words += [sentence(found)] if found else []
    return comparisons, words


def table(title: str, conditions: Sequence[str], measures: Sequence[Measure], cells: Sequence[Cell]) -> str:
    """Markdown: a row for each condition, a column for each measure."""
    there = [m for m in measures if any(m.name in cell.values for cell in cells)]
    lines = [
        f"## {title}",
        "",
        "| | " + " | ".join(m.name for m in there) + " |",
        "| --- |" + " --- |" * len(there),
    ]
    for condition in conditions:
        row = [figure(cells, condition, measure) for measure in there]
        if any(row):
            shown = [_shown(found, measure) for found, measure in zip(row, there)]
            lines.append(f"| {condition} | " + " | ".join(shown) + " |")
    lines += ["", "95 % intervals in brackets. " + " ".join(f"*{m.name}*: {m.text}." for m in there), ""]
    return "\n".join(lines)


def write(
    folder: Path,
    settings: Mapping[str, object],
    text: str,
    figures: Sequence[Figure | None],
    comparisons: Sequence[Comparison | None],
    sheets: Sequence[str],
    words: Sequence[str],
) -> dict:
    """Writes report.md and report.json; returns what the latter holds."""
    report = {
        "settings": dict(settings),
        "figures": [asdict(row) for row in figures if row],
        "comparisons": [asdict(row) for row in comparisons if row],
        "words": list(words),
        "sheets": list(sheets),
    }
    shown = "".join(f"![{name.removesuffix('.png')}]({name})\n\n" for name in sheets)
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    page = f"{text}\n{ABOUT}\n\n{_listed(words)}\n{shown}Settings: {told}.\n"
    files.write(folder / "report.md", page.encode(), "The report")
    files.write(folder / "report.json", json.dumps(report, indent=1).encode(), "The report")
    return report


def _listed(words: Sequence[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in words)


def _shown(found: Figure | None, measure: Measure) -> str:
    if found is None:
        return ""
    if measure.yes_or_no:
        return f"{100 * found.value:.1f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
