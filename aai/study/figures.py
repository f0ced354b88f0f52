"""From results to figures: means with 95 % intervals, differences of conditions, tables, and words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import files
from ..metrics import Share, student
from .results import Result
from .scores import Measure
from .setting import Setting

ABOUT = (
    "Differences are of the same sound and seed. Their 95 % intervals are over the sounds, each the mean of "
    "its seeds, or over the seeds where there is one sound; *better* or *worse* where the interval lies "
    "wholly on that side. So are the intervals of means; those of shares are over the pictures, which share "
    "sounds and trainings: they say how sure a share is for these, not for others."
)
AGREEING = 6
"""So many differences that are all alike decide what their interval, of no width, cannot: by a sign test."""
ROUNDING = 1e-9
"""What is smaller than this is the rounding of numbers: no width of an interval, and no difference."""


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


def counted(setting: Setting, seeds: int) -> str:
    """What stands below a plot's title."""
    return f"sounds: {len(setting.subjects)}, seeds: {seeds}, 95 % intervals"


def figure(results: Sequence[Result], condition: str, measure: Measure) -> Figure | None:
    """Wilson's interval for a share; for other means Student's over the sounds, whose seeds share an
    embedding, or over the seeds of a single sound, whose pictures share a training. None where the condition
    was not measured."""
    own = [one for one in results if one.condition == condition and measure.name in one.values]
    if not own:
        return None
    several, by_unit = len({one.subject for one in own}) > 1, {}
    for one in own:
        by_unit.setdefault(one.subject if several else one.seed, []).extend(one.values[measure.name])
    groups = list(by_unit.values())
    values = [value for group in groups for value in group]
    if measure.yes_or_no:
        share = Share(round(sum(values)), len(values))
        return Figure(condition, measure.name, share.value, *share.interval, len(values))
    low, high = student([float(np.mean(group)) for group in groups] if len(groups) > 1 else values)
    low, high = max(low, 0.0), min(high, measure.most)
    return Figure(condition, measure.name, float(np.mean(values)), low, high, len(values))


def compare(results: Sequence[Result], better: str, worse: str, measure: Measure) -> Comparison | None:
    """None where the two have no sound and seed in common."""
    means: dict[str, dict[tuple[str, int], float]] = {better: {}, worse: {}}
    for cell in results:
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
    decides = len(alike) >= (2 if high - low > ROUNDING else AGREEING)
    verdict = "not decided"
    if decides and towards[0] > ROUNDING:
        verdict = "confirmed"
    elif decides and towards[1] < -ROUNDING:
        verdict = "denied"
    return Comparison(
        better, worse, measure.name, float(np.mean(alike)), low, high, len(alike), over, verdict
    )


def sentence(comparisons: Sequence[Comparison]) -> str:
    """What all measures say of one pair of conditions."""
    groups: dict[str, list[str]] = {"confirmed": [], "denied": [], "not decided": []}
    for one in comparisons:
        shown = f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        if one.high - one.low <= ROUNDING:
            shown = f"{one.difference:+.3f} in all" if abs(one.difference) > ROUNDING else "no difference"
        groups[one.verdict].append(f"{one.measure} ({shown})")
    says = {"confirmed": "better by", "denied": "worse by", "not decided": "not decided by"}
    parts = [f"{says[verdict]} {', '.join(names)}" for verdict, names in groups.items() if names]
    first = comparisons[0]
    over = f"{first.count} {first.over if first.count > 1 else first.over[:-1]}"
    return f"{first.better} against {first.worse}, {over}: {'; '.join(parts)}."


def compare_all(
    results: Sequence[Result], pairs: Sequence[tuple[str, str]], measures: Sequence[Measure]
) -> tuple[list[Comparison], list[str]]:
    """Every pair (better, worse) by every measure, and a sentence for each pair."""
    comparisons, words = [], []
    for better, worse in pairs:
        all_measures = (compare(results, better, worse, measure) for measure in measures)
        pair = [comparison for comparison in all_measures if comparison]
        comparisons += pair
        words += [sentence(pair)] if pair else []
    return comparisons, words


def table(
    title: str, conditions: Sequence[str], measures: Sequence[Measure], results: Sequence[Result]
) -> str:
    """Markdown: a row for each condition, a column for each measure."""
    there = [m for m in measures if any(m.name in result.values for result in results)]
    lines = [
        f"## {title}",
        "",
        "| | " + " | ".join(m.name for m in there) + " |",
        "| --- |" + " --- |" * len(there),
    ]
    for condition in conditions:
        row = [figure(results, condition, measure) for measure in there]
        if any(row):
            shown = [_shown(*pair) for pair in zip(row, there)]
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
    metadata = ", ".join(f"{key} {value}" for key, value in settings.items())
    page = f"{text}\n{ABOUT}\n\n{_listed(words)}\n{shown}Settings: {metadata}.\n"
    files.write(folder / "report.md", page.encode(), "The report")
    files.write(folder / "report.json", json.dumps(report, indent=1).encode(), "The report")
    return report


def _listed(words: Sequence[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in words)


def _shown(figure: Figure | None, measure: Measure) -> str:
    if figure is None:
        return ""
    if measure.yes_or_no:
        return f"{100 * figure.value:.1f} % [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
