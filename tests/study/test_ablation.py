"""The study of references and steps from end to end, and what its results must have in common."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from aai.encoders.cavmae import CAVMAE
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.study import ablation
from aai.study.results import Results, draw, sound_token


def test_references_by_steps(setting, tmp_path, brief):
    told = []
    report = ablation.run(
        setting, tmp_path, seeds=2, steps=(3, 1), references=(1, 2), count=2, settings=brief,
        tick=told.append,
    )  # fmt: skip
    assert len(told) == 2 * 2 * 2 * 2
    cells = Results(tmp_path, json.loads((tmp_path / "cells" / "settings.json").read_text(encoding="utf-8")))
    cell = cells.get("2 references, 3 steps", setting.subjects[0], 1)
    assert cell.pictures.shape == (2, 3, 16, 16) and cell.seed == 1
    # The snapshot after 3 steps is the token of a training of 3.
    pictures = setting.references(setting.subjects[0], 2, 0)
    token = sound_token(setting, setting.subjects[0].f_a, pictures, replace(brief, steps=3, seed=1))[3]
    again = draw(setting, "a photo of *", [token], 1, 2)
    assert_close(cell.pictures, again, atol=0.5 / 255 + 1e-6, rtol=0)
    names = {row["condition"] for row in report["figures"]}
    assert names == {f"{k}, {s} steps" for k in ("1 reference", "2 references") for s in (1, 3)}
    assert all(row["count"] == 8 and row["low"] <= row["value"] <= row["high"] for row in report["figures"])
    for name in ("sheet_rain.png", "plot_ais__own_encoder.png"):
        with Image.open(tmp_path / name) as sheet:
            assert sheet.size
    assert "| 1 reference, 3 steps |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_study_goes_on_with_the_same_models_and_judges_alone(setting, encoder, make_parts, tmp_path, brief):
    Results(tmp_path, ablation.about(setting, brief))
    Results(tmp_path, ablation.about(replace(setting, subjects=setting.subjects[:1]), brief))
    torch.manual_seed(1)
    model = CAVMAE(encoder.model.config).eval().requires_grad_(False)
    other = CAVMAEEncoder(model, encoder.labels, encoder.label_vectors, name=encoder.name)
    for name, changed in (
        ("model", replace(setting, model=DiffusersPictureModel(**vars(make_parts(seed=1))))),
        ("encoder", replace(setting, encoder=other)),
        ("measures", replace(setting, scorers=())),
        ("data", replace(setting, data="others")),
    ):
        with pytest.raises(InputError, match=f"another {name} "):
            Results(tmp_path, ablation.about(changed, brief))
