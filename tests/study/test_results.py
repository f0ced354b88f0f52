"""Results that are drawn and scored once, and the tokens that they are drawn with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.study.results import Results, slug, sound_token, textual_inversion


def test_labels_that_look_alike_have_results_of_their_own(setting, tmp_path):
    results, blind = Results(tmp_path, {}), replace(setting, scorers=())
    labels = ("heavy rain", "heavy-rain", "Heavy rain")
    subjects = [replace(setting.subjects[0], label=label) for label in labels]
    for number, subject in enumerate(subjects):
        results.put("ours", subject, 0, torch.full((1, 3, 4, 4), number / 255), blind)
    for number, subject in enumerate(subjects):
        assert_close(results.get("ours", subject, 0).pictures, torch.full((1, 3, 4, 4), number / 255))


def test_textual_inversion_has_no_sound_in_it(setting, brief):
    subject = setting.subjects[0]
    pictures = setting.references(subject, 2, 0)
    one = textual_inversion(setting, subject.f_a, pictures, brief)
    other = textual_inversion(setting, torch.randn(32), pictures, brief)
    assert_close(one.vectors["clip_l"], other.vectors["clip_l"], atol=1e-5, rtol=0)
    assert one.f_a is None and not one.f_adapter
    ours = sound_token(setting, subject.f_a, pictures, brief)[2]
    s = ours.scale["clip_l"]
    assert_close(
        ours.vectors["clip_l"] - ours.f_adapter["clip_l"], s * subject.f_a[None] / subject.f_a.norm()
    )


def test_a_result_is_stored_with_its_pictures_and_values(setting, tmp_path):
    results, subject = Results(tmp_path, {"batch": 1}), setting.subjects[0]
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert results.get("ours", subject, 0) is None
    put = results.put("ours", subject, 0, pictures, setting)
    assert set(put.values) == {measure.name for scorer in setting.scorers for measure in scorer.measures}
    again = Results(tmp_path, {"batch": 1}).get("ours", subject, 0)
    assert (again.condition, again.subject, again.values) == ("ours", subject.label, put.values)
    assert_close(again.pictures, pictures, atol=0.5 / 255 + 1e-6, rtol=0)
    assert results.get("ours", subject, 1) is None and results.get("text only", subject, 0) is None
    with pytest.raises(InputError, match="another batch"):
        Results(tmp_path, {"batch": 2})


def test_pictures_of_a_stopped_study_without_values_are_no_result(setting, tmp_path):
    results, subject = Results(tmp_path, {}), setting.subjects[0]
    results.put("ours", subject, 0, torch.zeros(1, 3, 4, 4), replace(setting, scorers=()))
    (path,) = (tmp_path / "cells").glob("*ours*.json")
    path.unlink()
    assert path.with_suffix(".png").is_file() and results.get("ours", subject, 0) is None


def test_a_measures_name_is_part_of_a_files():
    assert slug("AIS (own encoder)") == "ais__own_encoder"


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can be no folder"):
        Results(tmp_path / "file", {})
