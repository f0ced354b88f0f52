"""The nodes' own views speak the front end's language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LOCALES = Path(__file__).parents[2] / "locales"


@pytest.mark.parametrize("language", ["fr", "ja"])
def test_views_speak_the_front_ends_language(tab, newest, language):
    told = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))["views"]
    page = tab(newest, language=language)
    page.load(page.template("loudness_sweep"))
    page.show()
    hints = page.page.locator(".aai-hint").all_text_contents()
    assert hints and set(hints) <= {told[k] for k in told if k.startswith("Run, and")}
    line = page.page.locator(".aai-waveform .aai-line").first
    line.filter(has_text="5.0 s").wait_for()
    times = {"start": "0.0 s", "end": "5.0 s", "length": "5.0 s", "whole": "5.0 s"}
    wanted = told["{start} to {end}, {length} of {whole}"].format(**times)
    assert line.text_content() == wanted
    page.shot(f"language-{language}")
    assert page.complaints == []
