"""The page for people: what is on it, and what is not."""

from __future__ import annotations

import base64
import json
import re

import pytest
import torch

from aai import image
from aai.errors import InputError
from aai.study import user_study


def test_the_page_holds_all_and_tells_nothing(study, tmp_path, embedded):
    page = tmp_path / "people.html"
    report = user_study.write(study, page, questions=5, seed=3)
    held, text = embedded(page), page.read_text(encoding="utf-8")
    assert report["questions"] == len(held["questions"]) == 5
    assert (
        not re.search(r'(src|href)="?https?:', text)
        and "textual inversion" not in text
        and "ours" not in text
    )
    assert {q["asks"] for q in held["questions"]} == {"rain", "a dog"}
    assert {q["sound"] is not None for q in held["questions"] if q["asks"] == "a dog"} == {True}
    assert not any(q["sound"] for q in held["questions"] if q["asks"] == "rain")
    key = json.loads(user_study.key_file(page).read_text(encoding="utf-8"))
    picture = held["questions"][0]["pictures"][0]
    meant = key["codes"][picture["code"]]
    stem = f"{meant['subject']} {meant['condition']} {meant['seed']}".replace(" ", "-")
    (tmp_path / "one.png").write_bytes(base64.b64decode(picture["image"].split(",")[1]))
    strip = image.load(study / "cells" / f"{stem}.png")
    assert torch.equal(image.load(tmp_path / "one.png"), strip.chunk(2, dim=2)[meant["picture"]])
    orders = {tuple(key["codes"][p["code"]]["condition"] for p in q["pictures"]) for q in held["questions"]}
    assert len(orders) > 1


def test_the_same_seed_gives_the_same_page(study, tmp_path):
    pages = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        user_study.write(study, tmp_path / f"{name}.html", questions=4, seed=seed)
        pages.append((tmp_path / f"{name}.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1] != pages[2]


def test_other_pictures_of_the_same_sounds_are_another_study(study, tmp_path, embedded):
    user_study.write(study, tmp_path / "a.html", questions=4)
    for path in (study / "cells").glob("*.png"):
        image.save(torch.rand(3, 8, 16), path)
    user_study.write(study, tmp_path / "b.html", questions=4)
    assert embedded(tmp_path / "a.html")["id"] != embedded(tmp_path / "b.html")["id"]


def test_more_conditions_than_letters_are_refused(study, tmp_path):
    for number in range(6):
        for path in list((study / "cells").glob("rain-ours-?.json")):
            notes = {**json.loads(path.read_text(encoding="utf-8")), "condition": f"ours {number}"}
            copied = path.with_name(f"{path.stem}-{number}.json")
            copied.write_text(json.dumps(notes), encoding="utf-8")
            copied.with_suffix(".png").write_bytes(path.with_suffix(".png").read_bytes())
    with pytest.raises(InputError, match="9 conditions, too many"):
        user_study.write(study, tmp_path / "page.html")


def test_folders_without_a_comparison_are_refused(study, tmp_path):
    with pytest.raises(InputError, match="holds no study"):
        user_study.write(tmp_path, tmp_path / "p.html")
    for path in (study / "cells").glob("*text*"):
        path.unlink()
    with pytest.raises(InputError, match="two conditions"):
        user_study.write(study, tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_a_class_called_like_an_html_comment_leaves_the_page_whole(study, tmp_path):
    for path in (study / "cells").glob("*rain*.json"):
        notes = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**notes, "subject": "<!--<script>"}), encoding="utf-8")
    user_study.write(study, tmp_path / "people.html", questions=5, seed=3)
    page = (tmp_path / "people.html").read_text(encoding="utf-8")
    content = re.search(r'id="study">(.*?)</script>', page, re.S)[1]
    assert "<" not in content and "<!--<script>" in {q["asks"] for q in json.loads(content)["questions"]}
