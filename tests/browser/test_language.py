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


CUT = """() => [...document.querySelectorAll(".aai-waveform .aai-line")].map((e) => {
    const line = e.getBoundingClientRect(), view = e.closest(".aai-view").getBoundingClientRect();
    return e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight || line.bottom > view.bottom;
})"""


@pytest.mark.parametrize("language", ["fr", "ja", "zh"])
def test_a_line_is_read_whole_at_the_nodes_own_width(tab, newest, language):
    page = tab(newest, language=language)
    page.load(page.template("sound_to_picture"))
    page.show("AAI_LoadAudio")
    line = page.page.locator(".aai-waveform .aai-line")
    line.filter(has_text="5.0 s").wait_for()
    page.set("AAI_LoadAudio", start=1.0, length=20.0)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate(CUT) == [False]
    page.shot(f"line-{language}")
    assert not line.get_attribute("title")
    # What is longer still is read under the mouse.
    long = "a name without an end " * 9
    line.evaluate("(e, long) => { e.textContent = long; }", long)
    line.hover()
    assert page.page.evaluate(CUT) == [True] and line.get_attribute("title") == long
    assert page.complaints == []
