"""Heat maps, comparisons and loudness on their nodes: they answer the mouse and the keys."""

from __future__ import annotations

import pytest

GRAPH = """() => {
    const graph = app.graph, find = (t) => graph._nodes.find((n) => n.type === t);
    // The template has one of its own, elsewhere in the graph.
    graph.remove(find("AAI_CompareImages"));
    const left = Math.min(...graph._nodes.map((n) => n.pos[0]));
    const below = Math.max(...graph._nodes.map((n) => n.pos[1] + n.size[1])) + 80;
    const add = (type, x) => {
        const node = LiteGraph.createNode(type);
        node.pos = [left + x, below];
        graph.add(node);
        return node;
    };
    const link = (from, out, to, into) => from.connect(
        from.outputs.findIndex((o) => o.name === out), to, to.inputs.findIndex((i) => i.name === into));
    const edit = find("AAI_PromptToPromptEdit"), decoded = find("VAEDecode");
    const loud = add("AAI_LoudnessReweight", 0), watch = add("AAI_AttentionHeatmap", 380);
    const draw = add("AAI_DrawHeatmap", 680), compare = add("AAI_CompareImages", 1080);
    link(edit, "model", loud, "model");
    link(edit, "positive", loud, "conditioning");
    link(find("AAI_LoadAudio"), "audio", loud, "audio");
    link(loud, "model", watch, "model");
    link(edit, "positive", watch, "conditioning");
    link(watch, "model", find("KSampler"), "model");
    link(watch, "maps", draw, "maps");
    link(decoded, "IMAGE", draw, "images");
    link(decoded, "IMAGE", compare, "images");
}"""
KINDS = ("AAI_LoudnessReweight", "AAI_AttentionHeatmap", "AAI_DrawHeatmap", "AAI_CompareImages")


@pytest.fixture
def page(tab, renderer):
    """The edit template with the nodes that look, run. The second renderer's run is cached."""
    page = tab(renderer, "light" if renderer == "vue" else "dark")
    page.load(page.template("sound_edit"))
    page.page.evaluate(GRAPH)
    page.set("AAI_TrainSoundToken", steps=8)
    page.set("AAI_SaveSoundToken", overwrite=True)
    page.set("AAI_PromptToPromptEdit", scale="0.5, 1")
    page.set("KSampler", steps=8)
    page.show(*KINDS)
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    page.show(*KINDS)
    return page


def test_heat_map_compare_and_loudness_answer(page):
    browser = page.page
    # Every result is on its node, cached or not.
    assert "LUFS" in browser.locator(".aai-loudness .aai-line").inner_text()
    assert "×" in browser.locator(".aai-loudness .aai-number").inner_text()

    frame = browser.locator(".aai-heatmap .aai-frame")
    line = browser.locator(".aai-heatmap output")
    # The source does not name the sound, so the two edited pictures have heat maps.
    assert browser.locator(".aai-heatmap .aai-count").inner_text() == "1 of 2"
    assert "% of the attention" in line.inner_text()
    box = frame.bounding_box()
    told = set()
    for x, y in ((0.2, 0.2), (0.5, 0.6), (0.8, 0.9), (0.5, 0.3)):
        browser.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
        assert "× its average" in line.inner_text()
        told.add(line.inner_text())
    page.shot("heat-under-the-mouse")
    assert len(told) > 1
    slider = browser.locator(".aai-heatmap input[type=range]")
    slider.focus()
    browser.keyboard.press("Home")
    assert browser.locator(".aai-heat").evaluate("e => getComputedStyle(e).opacity") == "0"
    browser.keyboard.press("End")
    assert browser.locator(".aai-heat").evaluate("e => getComputedStyle(e).opacity") == "1"
    browser.locator(".aai-heatmap .aai-stage").focus()
    browser.keyboard.press("ArrowRight")
    assert "× its average" in line.inner_text()
    browser.locator('.aai-heatmap button[aria-label="next picture"]').click()
    assert browser.locator(".aai-heatmap .aai-count").inner_text() == "2 of 2"

    handle = browser.locator(".aai-divider")
    share = lambda: int(handle.get_attribute("aria-valuenow"))  # noqa: E731
    assert share() == 50
    box = browser.locator(".aai-compare .aai-frame").bounding_box()
    middle = box["y"] + box["height"] / 2
    browser.mouse.move(box["x"] + box["width"] / 2, middle)
    browser.mouse.down()
    browser.mouse.move(box["x"] + box["width"] * 0.8, middle)
    browser.mouse.up()
    assert share() == pytest.approx(80, abs=2)
    browser.mouse.move(box["x"] + box["width"] * 0.3, middle)
    assert share() == pytest.approx(80, abs=2), "it follows the mouse only while pressed"
    handle.focus()
    browser.keyboard.press("Home")
    assert share() == 0
    for _ in range(3):
        browser.keyboard.press("ArrowRight")
    assert share() == 6
    before = browser.locator(".aai-compare img").first.get_attribute("src")
    browser.keyboard.press("PageDown")
    assert browser.locator(".aai-compare .aai-count").inner_text() == "2 of 2"
    assert browser.locator(".aai-compare img").first.get_attribute("src") != before
    browser.keyboard.press("End")
    for _ in range(20):
        browser.keyboard.press("ArrowLeft")
    page.shot("looked")
    assert page.complaints == []


BAND = """() => {
    app.graph.clear();
    const node = LiteGraph.createNode("AAI_SoundTimeline");
    app.graph.add(node);
    const words = [..."abcdefghij"];
    const of = (value) => words.map(() => value);
    node.onExecuted({ timeline: [{ frames: 10, seconds: 5, words, loudness: of(-20), scales: of(1) }] });
    app.canvas.ds.offset = [200, 200];
    app.canvas.setDirty(true, true);
}"""
COLOURS = """() => [...document.querySelectorAll(".aai-known")].map((e) => {
    const { color, backgroundColor } = getComputedStyle(e);
    return [color, backgroundColor].map((found) => found.match(/[0-9.]+/g).slice(0, 3).map(Number));
})"""


def luminance(colour: list[float]) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    red, green, blue = (((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_a_timelines_words_are_read_on_every_colour(tab, newest, palette):
    page = tab(newest, palette)
    page.page.evaluate(BAND)
    page.page.locator(".aai-known").nth(9).wait_for()
    shades = [sorted(map(luminance, pair)) for pair in page.page.evaluate(COLOURS)]
    assert len(shades) == 10
    assert min((light + 0.05) / (dark + 0.05) for dark, light in shades) >= 4.5
    page.shot("band")
    assert page.complaints == []
