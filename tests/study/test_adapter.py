"""The study of what the adapter and the sound carry, from end to end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import torch
from PIL import Image

from aai.study import adapter
from aai.study.results import Results
from aai.study.setting import folder_setting


def test_the_adapter_study_takes_every_part_away(setting, tmp_path, brief):
    report = adapter.run(setting, tmp_path, seeds=1, count=1, k=2, settings=brief)
    assert {row["condition"] for row in report["figures"]} == set(adapter.CONDITIONS)
    # Pictures of another sound are not asked how like the subject's they are.
    heard = {row["condition"] for row in report["figures"] if row["measure"].startswith("AIS")}
    assert heard == set(adapter.CONDITIONS) - {adapter.MATE, adapter.STRANGER}
    assert [row["better"] for row in report["comparisons"]].count(adapter.MATE)
    assert (tmp_path / "report.md").is_file()
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
    # A class of one sound has no class-mate.
    alone = replace(setting, subjects=[replace(setting.subjects[0], mate=None)])
    report = adapter.run(alone, tmp_path / "alone", seeds=1, count=1, k=2, settings=brief)
    missing = {adapter.MATE, adapter.STRANGER}
    assert {row["condition"] for row in report["figures"]} == set(adapter.CONDITIONS) - missing


def test_sounds_of_two_classes_may_have_one_name(folders, encoder, picture_model, tmp_path, brief):
    for name in ("rain", "dog"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        shutil.copy(folders / "sounds" / name / f"{name}1.wav", tmp_path / "sounds" / name / "1.wav")
    made = folder_setting(picture_model, encoder, tmp_path / "sounds", folders / "pictures")
    made = replace(made, sampling_steps=2)
    assert [subject.frame for subject in made.subjects] == [None, None]
    adapter.run(made, tmp_path / "out", seeds=1, count=1, k=2, settings=brief)
    cells = tmp_path / "out" / "cells"
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in cells.glob("*-*.json")]
    # A class of one sound has no class-mate.
    drawn = set(adapter.CONDITIONS) - {adapter.MATE}
    assert {(n["subject"], n["condition"]) for n in notes} == {(s, c) for s in ("dog", "rain") for c in drawn}
    held = Results(tmp_path / "out", json.loads((cells / "settings.json").read_text(encoding="utf-8")))
    for subject in made.subjects:
        own, stranger = (held.get(name, subject, 0).pictures for name in (adapter.OURS, adapter.STRANGER))
        assert not torch.equal(own, stranger)
