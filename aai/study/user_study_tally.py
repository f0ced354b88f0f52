"""Counts what people answered on a page of the user study: naturalness and preference, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import Unreadable, read_json
from ..metrics import Share, interval_of_shares, student
from .user_study import ANSWERS, KEY


def tally(answers: Sequence[Path], key: Path) -> dict:
    """Per condition the mean naturalness (1 to 5) and the share of preferences, with 95 % intervals.

    The intervals are Student's over people, whose own answers hang together (Wilson's for a share on which
    all agree); of one person alone, over the questions (Wilson's for the share). A person who sends two files
    counts once, with the later named.
    Raises InputError for files that are no answers, or to another page than the key's.
    """
    page = _read(key, "key")
    if page.get("format") != KEY or not _is_key(page):
        raise InputError(f"'{key}' is no key of a page: give the .key.json that was written beside it.")
    people = {}
    for path in answers:
        answer = _read(path, "answers")
        if answer.get("format") != ANSWERS or not isinstance(answer.get("answers"), dict):
            raise InputError(f"'{path}' holds no answers: give files that people saved from the page.")
        if answer.get("study") != page["study"]:
            raise InputError(f"'{path}' answers another page than '{key}' belongs to: give that page's key.")
        people[str(answer.get("respondent"))] = _of_one(answer["answers"], page, path)
    rows = []
    for condition in page["conditions"]:
        ratings = [person["naturalness"].get(condition, []) for person in people.values()]
        ratings = [values for values in ratings if values]
        votes = [[choice == condition for choice in person["preferred"]] for person in people.values()]
        votes = [values for values in votes if values]
        rows.append(
            {
                "condition": condition,
                "naturalness": _mean(ratings, 1.0, 5.0),
                "preferred": _mean(votes, 0.0, 1.0),
                "votes": sum(map(sum, votes)),
                "of": sum(map(len, votes)),
            }
        )
    return {"people": len(people), "conditions": rows}


def shown(report: dict) -> str:
    """The tally as a Markdown table."""
    lines = [
        f"{report['people']} people, 95 % intervals in brackets.",
        "",
        "| | naturalness (1 to 5) | preferred |",
        "| --- | --- | --- |",
    ]
    for row in report["conditions"]:
        cells = []
        for name, factor, unit, digits in (("naturalness", 1, "", 2), ("preferred", 100, " %", 0)):
            found = row[name]
            if found is None:
                cells.append("")
                continue
            value, low, high = (f"{factor * found[part]:.{digits}f}" for part in ("mean", "low", "high"))
            cells.append(f"{value}{unit} [{low}, {high}]")
        lines.append(f"| {row['condition']} | {cells[0]} | {cells[1]} ({row['votes']} of {row['of']}) |")
    return "\n".join(lines)


def _mean(people: Sequence[Sequence[float]], least: float, most: float) -> dict | None:
    if not people:
        return None
    means = [float(np.mean(values)) for values in people]
    if len(people) > 1:
        low, high = interval_of_shares(means) if most == 1.0 else student(means)
    elif most == 1.0:
        low, high = Share(int(sum(people[0])), len(people[0])).interval
    else:
        low, high = student(people[0])
    return {"mean": float(np.mean(means)), "low": max(low, least), "high": min(high, most)}


def _is_key(page: dict) -> bool:
    """Whether a key's parts are of the kinds that `user_study.write` gives them."""
    codes, conditions = page.get("codes"), page.get("conditions")
    return (
        isinstance(page.get("study"), str)
        and isinstance(conditions, list)
        and isinstance(codes, dict)
        and all(isinstance(code, dict) and code.get("condition") in conditions for code in codes.values())
    )


def _of_one(answers: dict, page: dict, path: Path) -> dict:
    """A person's ratings by condition and preferred conditions; unanswered questions are passed over."""
    ratings: dict[str, list[int]] = {}
    preferred = []
    for answer in answers.values():
        naturalness = (answer.get("naturalness") or {}) if isinstance(answer, dict) else None
        if not isinstance(naturalness, dict) or not isinstance(answer.get("preferred"), str | None):
            raise InputError(f"'{path}' holds answers of another kind than the page's: ask for it again.")
        for code, value in naturalness.items():
            if code not in page["codes"] or value not in (1, 2, 3, 4, 5):
                raise InputError(
                    f"'{path}' holds a rating that the page cannot give: ask for the file again."
                )
            ratings.setdefault(page["codes"][code]["condition"], []).append(value)
        choice = answer.get("preferred")
        if choice is not None:
            if choice not in page["codes"]:
                raise InputError(f"'{path}' prefers a picture that is not on the page: ask for it again.")
            preferred.append(page["codes"][choice]["condition"])
    return {"naturalness": ratings, "preferred": preferred}


def _read(path: Path, what: str) -> dict:
    try:
        content = read_json(path)
    except Unreadable as error:
        raise InputError(f"'{path}' cannot be read as {what} ({error}): check the file.") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}' cannot be read as {what}: it holds a {type(content).__name__}.")
    return content
