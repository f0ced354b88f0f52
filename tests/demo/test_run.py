"""The demo, both engines, with two sounds and tokens trained for three steps."""

import json
from pathlib import Path

import pytest
from PIL import Image

from aai.demo import run
from aai.demo.comfy_server import find_comfy
from aai.errors import InputError

EVENTS = ("fire", "thunder")


def check(folder: Path, report: dict, engine: str) -> None:
    assert report == json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["engine"].startswith(engine) and report["versions"]["torch"]
    assert report["complaints_in_the_log"] == []
    rows = report["pictures"]
    assert len(rows) == len(EVENTS) * 2 * run.PER_PROMPT
    assert {row["event"] for row in rows} == set(EVENTS)
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            assert picture.size == (128, 128)
        assert (folder / row["sound"]).stat().st_size > 10_000
        assert row["seed"] and row["seconds"] > 0 and row["token"] in EVENTS
        assert set(row["grade"]) == {"event", "scene", "intensity"}
    right = sum(row["grade"]["event"] == row["event"] for row in rows)
    assert report["event_named_by_the_oracle"]["right"] == right
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 300
    page = (folder / "index.html").read_text(encoding="utf-8")
    edits = report["edits"]
    counts = {"sound_edit": 2, "loudness_sweep": 6, "stylize": 2, "photograph": 2}
    assert [row["example"] for row in edits] == [name for name, count in counts.items() for _ in range(count)]
    assert all((folder / row["file"]).is_file() and row["file"] in page for row in edits)
    assert page.count("<audio") == len(EVENTS) and page.count("<img") == len(rows) + len(edits)
    assert all(row["file"] in page and row["sound"] in page for row in rows)


def test_through_diffusers(tmp_path):
    said = []
    report = run.run(tmp_path, "diffusers", say=said.append, events=EVENTS, steps=3)
    check(tmp_path, report, "diffusers")
    assert len(said) == 2 * len(EVENTS) + 5
    assert sorted(p.name for p in (tmp_path / "tokens").iterdir()) == [
        "fire.safetensors",
        "thunder.safetensors",
    ]


@pytest.mark.skipif(find_comfy() is None, reason="no ComfyUI: COMFYUI_PATH is not set")
def test_through_comfyui(tmp_path):
    pytest.importorskip("comfyui_frontend_package", reason="ComfyUI's requirements are not installed")
    report = run.run(tmp_path, "comfyui", say=lambda text: None, events=EVENTS, steps=3)
    check(tmp_path, report, "ComfyUI")


def test_without_comfyui(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="COMFYUI_PATH"):
        run.run(tmp_path, "comfyui")
