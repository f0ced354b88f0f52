"""The page for people: what is on it, what is not, and what their answers come to."""

from __future__ import annotations

import base64
import json
import re

import pytest
import torch

from aai import image
from aai.errors import InputError
from aai.study import user_study, user_study_tally


@pytest.fixture
def study(tmp_path):
    """A comparison's folder: two sounds, three conditions, two seeds, two pictures each."""
    cells = tmp_path / "compare" / "cells"
    cells.mkdir(parents=True)
    (cells / "settings.json").write_text("{}", encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    for subject in ("rain", "a dog"):
        for condition in ("text only", "textual inversion", "ours"):
            for seed in range(2):
                stem = f"{subject} {condition} {seed}".replace(" ", "-")
                image.save(torch.rand(3, 8, 16, generator=generator), cells / f"{stem}.png")
                notes = {
                    "condition": condition,
                    "subject": subject,
                    "seed": seed,
                    "pictures": 2,
                    "values": {},
                }
                (cells / f"{stem}.json").write_text(json.dumps(notes), encoding="utf-8")
    (tmp_path / "compare" / "sounds").mkdir()
    (tmp_path / "compare" / "sounds" / "a_dog.wav").write_bytes(b"RIFF")
    return tmp_path / "compare"


def embedded(page) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="study">(.*?)</script>', text, re.S)[1])


def test_the_page_holds_all_and_tells_nothing(study, tmp_path):
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


def test_other_pictures_of_the_same_sounds_are_another_study(study, tmp_path):
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


def answer(page, key, rate, choose, respondent) -> dict:
    """The answers of a person who rates by condition and prefers one condition."""
    given = {}
    for question in embedded(page)["questions"]:
        conditions = {p["code"]: key["codes"][p["code"]]["condition"] for p in question["pictures"]}
        preferred = next(code for code, condition in conditions.items() if condition == choose)
        given[question["id"]] = {
            "naturalness": {code: rate[condition] for code, condition in conditions.items()},
            "preferred": preferred,
        }
    return {"format": "aai-people-1", "study": key["study"], "respondent": respondent, "answers": given}


def test_a_tally_by_hand(study, tmp_path):
    page = tmp_path / "people.html"
    user_study.write(study, page, questions=4)
    key = json.loads(user_study.key_file(page).read_text(encoding="utf-8"))
    files = []
    for i, (ours, choose) in enumerate(((5, "ours"), (4, "ours"), (3, "text only"))):
        rate = {"ours": ours, "textual inversion": 2, "text only": 3}
        files.append(tmp_path / f"{i}.json")
        files[-1].write_text(json.dumps(answer(page, key, rate, choose, f"person {i}")), encoding="utf-8")
    report = user_study_tally.tally(files, user_study.key_file(page))
    rows = {row["condition"]: row for row in report["conditions"]}
    assert report["people"] == 3
    # 5, 4, 3: mean 4, standard error 1/sqrt(3), t(0.975, 2) = 4.3027, cut at the scale's ends.
    assert rows["ours"]["naturalness"] == pytest.approx({"mean": 4, "low": 4 - 4.302653 / 3**0.5, "high": 5})
    assert rows["ours"]["votes"] == 8 and rows["ours"]["of"] == 12
    assert rows["ours"]["preferred"]["mean"] == pytest.approx(2 / 3)
    # Nobody of three: Wilson's upper end is z^2 / (n + z^2).
    assert rows["textual inversion"]["preferred"] == pytest.approx(
        {"mean": 0, "low": 0, "high": 1.96**2 / (3 + 1.96**2)}, abs=1e-3
    )
    assert "| ours | 4.00 [1.52, 5.00] | 67 %" in user_study_tally.shown(report)
    twice = user_study_tally.tally([*files, files[0]], user_study.key_file(page))
    assert twice == report
    alone = user_study_tally.tally(files[:1], user_study.key_file(page))["conditions"]
    assert 0.4 < next(r for r in alone if r["condition"] == "ours")["preferred"]["low"] < 1


def test_other_files_are_refused(study, tmp_path):
    page = tmp_path / "people.html"
    user_study.write(study, page, questions=2)
    key_path = user_study.key_file(page)
    key = json.loads(key_path.read_text(encoding="utf-8"))
    good = answer(page, key, {"ours": 5, "textual inversion": 2, "text only": 3}, "ours", "x")
    path = tmp_path / "a.json"

    def says(held, sentence, key_file=key_path):
        path.write_text(held if isinstance(held, str) else json.dumps(held), encoding="utf-8")
        with pytest.raises(InputError, match=sentence):
            user_study_tally.tally([path], key_file)

    says("no json", "cannot be read")
    says([1], "cannot be read")
    says({}, "holds no answers")
    says({**good, "study": "other"}, "another page")
    broken = json.loads(json.dumps(good))
    code = next(iter(broken["answers"]["q0"]["naturalness"]))
    broken["answers"]["q0"]["naturalness"][code] = 9
    says(broken, "cannot give")
    broken = json.loads(json.dumps(good))
    broken["answers"]["q0"]["preferred"] = "nothing"
    says(broken, "not on the page")
    says(good, "no key of a page", key_file=path)
    with pytest.raises(InputError, match="cannot be read as key"):
        user_study_tally.tally([path], tmp_path / "nowhere.json")


def test_a_class_called_like_an_html_comment_leaves_the_page_whole(study, tmp_path):
    for path in (study / "cells").glob("*rain*.json"):
        notes = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**notes, "subject": "<!--<script>"}), encoding="utf-8")
    user_study.write(study, tmp_path / "people.html", questions=5, seed=3)
    page = (tmp_path / "people.html").read_text(encoding="utf-8")
    content = re.search(r'id="study">(.*?)</script>', page, re.S)[1]
    assert "<" not in content and "<!--<script>" in {q["asks"] for q in json.loads(content)["questions"]}


def test_answers_of_another_kind_get_a_sentence(study, tmp_path):
    page = tmp_path / "people.html"
    user_study.write(study, page, questions=5, seed=3)
    key = user_study.key_file(page)
    contents = json.loads(key.read_text(encoding="utf-8"))
    code = next(iter(contents["codes"]))
    path = tmp_path / "answers.json"
    for answers in (
        {"q0": None},
        {"q0": [1]},
        {"q0": {"naturalness": [1]}},
        {"q0": {"naturalness": {code: [5]}}},
        {"q0": {"preferred": [code]}},
        {"q0": {"preferred": {}}},
    ):
        answer = {"format": "aai-people-1", "study": contents["study"], "respondent": "x", "answers": answers}
        path.write_text(json.dumps(answer), encoding="utf-8")
        with pytest.raises(InputError, match="answers.json"):
            user_study_tally.tally([path], key)
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match="answers.json"):
        user_study_tally.tally([path], key)
    for damage in ({"codes": []}, {"codes": {"x": 3}}, {"conditions": None}, {"study": None}):
        key.write_text(json.dumps(contents | damage), encoding="utf-8")
        with pytest.raises(InputError, match="is no key"):
            user_study_tally.tally([path], key)
