"""The user study (4.4) as one page: people rate a comparison's pictures blindly, for naturalness and
preference.

The page holds its pictures and sounds itself and sends nothing. What its codes stand for is in a key file
that stays with whoever asks.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

from .. import files, image
from ..errors import InputError

KEY, ANSWERS = "aai-people-key-1", "aai-people-1"
"""The formats of a page's key, and of the answers that people save from the page."""
TEMPLATE = Path(__file__).with_name("user_study.html")
LETTERS = "ABCDEFGH"
"""What the page calls the pictures of a question."""


def write(study: Path, output: Path, questions: int = 20, seed: int = 0) -> dict:
    """Writes the page `output` and its key beside it (`key_file`) from the cells of a study's folder; returns
    what they hold in numbers.

    A question is a sound's pictures of one noise, one for each condition. Which are asked, and the order,
    come from `seed`; the pictures of a question and the questions are shuffled once more for each person.
    Raises InputError for a folder without cells, and for cells of fewer than two conditions or too many.
    """
    cells = _results(study)
    conditions = list(dict.fromkeys(cell["condition"] for cell in cells))
    groups: dict[tuple, dict[str, tuple[dict, int]]] = {}
    for cell in cells:
        for number in range(cell["pictures"]):
            groups.setdefault((cell["subject"], cell["seed"], number), {})[cell["condition"]] = cell, number
    whole = [key for key, group in groups.items() if len(group) == len(conditions)]
    if len(conditions) < 2 or not whole:
        raise InputError(
            f"'{study}' holds no pictures of two conditions to choose between: run `aai study compare` first."
        )
    if len(conditions) > len(LETTERS):
        raise InputError(
            f"'{study}' holds {len(conditions)} conditions, too many to choose between at a glance: take a "
            f"study of {len(LETTERS)} or fewer, as `aai study compare` makes."
        )
    # Two studies of the same sounds and seeds differ in their pictures.
    digest = hashlib.sha256(f"{seed} {questions}".encode())
    for cell in cells:
        digest.update(cell["file"].name.encode() + cell["file"].with_suffix(".png").read_bytes())
    name = digest.hexdigest()[:12]
    drawn = _chosen(whole, questions, random.Random(seed))
    rows, codes, sounds = [], {}, {}
    for subject, training, number in drawn:
        pictures = []
        for condition, (cell, place) in groups[subject, training, number].items():
            code = hashlib.sha256(f"{name} {condition} {subject} {training} {number}".encode()).hexdigest()[
                :10
            ]
            codes[code] = {"condition": condition, "subject": subject, "seed": training, "picture": number}
            pictures.append({"code": code, "image": _picture(cell, place)})
        # Sorted by code, so that not even their order tells the conditions.
        pictures.sort(key=lambda picture: picture["code"])
        sound = study / "sounds" / f"{subject.replace(' ', '_')}.wav"
        if sound.is_file() and subject not in sounds:
            sounds[subject] = f"data:audio/wav;base64,{base64.b64encode(sound.read_bytes()).decode()}"
        numbered = {s: f"s{i}" for i, s in enumerate(sounds)}
        rows.append(
            {
                "id": f"q{len(rows)}",
                "asks": subject,
                "sound": numbered.get(subject),
                "pictures": pictures,
            }
        )
    data = {
        "id": name,
        "seed": seed,
        "questions": rows,
        "sounds": {f"s{i}": sounds[s] for i, s in enumerate(sounds)},
    }
    page = TEMPLATE.read_text(encoding="utf-8").replace("/*STUDY*/", json.dumps(data).replace("<", "\\u003c"))
    files.write(output, page.encode(), "The page")
    key = {"format": KEY, "study": name, "conditions": conditions, "codes": codes}
    files.write(key_file(output), json.dumps(key, indent=1).encode(), "The page's key")
    return {
        "page": str(output),
        "key": str(key_file(output)),
        "study": name,
        "questions": len(rows),
        "conditions": conditions,
    }


def is_ours(page: Path) -> bool:
    """Whether a file is a page that `write` wrote."""
    try:
        return ANSWERS in page.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def key_file(page: Path) -> Path:
    return page.with_suffix(".key.json")


def _results(study: Path) -> list[dict]:
    found = []
    for path in sorted((study / "cells").glob("*.json")):
        notes = json.loads(path.read_text(encoding="utf-8"))
        if path.with_suffix(".png").is_file() and "condition" in notes:
            found.append({**notes, "file": path})
    if not found:
        raise InputError(f"'{study}' holds no study: name the folder that `aai study compare` wrote.")
    return found


def _chosen(keys: Sequence[tuple], count: int, draw: random.Random) -> list[tuple]:
    """`count` of the keys, as many of each sound as can be."""
    by_subject: dict[str, list[tuple]] = {}
    for key in keys:
        by_subject.setdefault(key[0], []).append(key)
    for group in by_subject.values():
        draw.shuffle(group)
    rounds = max(len(group) for group in by_subject.values())
    turns = [group[i] for i in range(rounds) for group in by_subject.values() if i < len(group)]
    chosen = turns[:count]
    draw.shuffle(chosen)
    return chosen


def _picture(cell: dict, place: int) -> str:
    """One of a cell's pictures as a data URI, without any metadata."""
    with image.opened(cell["file"].with_suffix(".png")) as strip:
        side = strip.width // cell["pictures"]
        part = strip.convert("RGB").crop((place * side, 0, (place + 1) * side, strip.height))
    content = io.BytesIO()
    part.save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
