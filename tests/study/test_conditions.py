"""Conditions that are drawn where they are missing, and shown side by side."""

from __future__ import annotations

import json

import torch
from PIL import Image

from aai.study.conditions import collect, report
from aai.study.results import Results

CONDITIONS = ("ours", "text only", "never")


def collected(setting, store, tick=lambda name: None):
    """The results of CONDITIONS, of which "never" cannot be drawn; and which were asked for."""
    asked = []

    def draw(subject, seed, missing):
        asked.append((subject.label, seed, tuple(missing)))
        return {name: torch.rand(2, 3, 16, 16) for name in missing if name != "never"}

    return collect(setting, store, 2, CONDITIONS, draw, tick), asked


def test_only_what_is_missing_is_drawn(setting, tmp_path):
    store, ticks = Results(tmp_path, {}), []
    results, asked = collected(setting, store, ticks.append)
    assert asked == [(s.label, seed, CONDITIONS) for s in setting.subjects for seed in range(2)]
    assert len(results) == 2 * 2 * 2 and len(ticks) == 2 * 2 * 3 and "rain, never, seed 1" in ticks
    again, asked = collected(setting, store)
    assert {missing for _, _, missing in asked} == {("never",)}
    assert [r.values for r in again] == [r.values for r in results]


def test_a_report_holds_figures_comparisons_and_a_sheet(setting, tmp_path):
    results, _ = collected(setting, Results(tmp_path, {}))
    report(
        setting, tmp_path, results, title="Two of three", conditions=CONDITIONS,
        pairs=[("ours", "text only")], metadata={"seeds": 2},
        first=("references", lambda subject: torch.rand(1, 3, 16, 16)),
    )  # fmt: skip
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {row["condition"] for row in written["figures"]} == {"ours", "text only"}
    assert {(row["better"], row["worse"]) for row in written["comparisons"]} == {("ours", "text only")}
    assert "Two of three" in (tmp_path / "report.md").read_text(encoding="utf-8")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 96
