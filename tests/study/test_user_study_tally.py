"""What people's answers come to."""

from __future__ import annotations

import json

import pytest

from aai.errors import InputError
from aai.study import user_study, user_study_tally


def answer(questions, key, rate, choose, respondent) -> dict:
    """The answers of a person who rates by condition and prefers one condition."""
    given = {}
    for question in questions:
        conditions = {p["code"]: key["codes"][p["code"]]["condition"] for p in question["pictures"]}
        preferred = next(code for code, condition in conditions.items() if condition == choose)
        given[question["id"]] = {
            "naturalness": {code: rate[condition] for code, condition in conditions.items()},
            "preferred": preferred,
        }
    return {"format": "aai-people-1", "study": key["study"], "respondent": respondent, "answers": given}


def test_a_tally_by_hand(study, tmp_path, embedded):
    page = tmp_path / "people.html"
    user_study.write(study, page, questions=4)
    key = json.loads(user_study.key_file(page).read_text(encoding="utf-8"))
    files = []
    for i, (ours, choose) in enumerate(((5, "ours"), (4, "ours"), (3, "text only"))):
        rate = {"ours": ours, "textual inversion": 2, "text only": 3}
        files.append(tmp_path / f"{i}.json")
        files[-1].write_text(
            json.dumps(answer(embedded(page)["questions"], key, rate, choose, f"person {i}")),
            encoding="utf-8",
        )
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


def test_other_files_are_refused(study, tmp_path, embedded):
    page = tmp_path / "people.html"
    user_study.write(study, page, questions=2)
    key_path = user_study.key_file(page)
    key = json.loads(key_path.read_text(encoding="utf-8"))
    good = answer(
        embedded(page)["questions"], key, {"ours": 5, "textual inversion": 2, "text only": 3}, "ours", "x"
    )
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
