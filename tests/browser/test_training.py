"""The nodes that train, before and after a run."""

from __future__ import annotations

TELL = """(output) => {
    const node = app.graph._nodes.find((n) => n.type === "AAI_TrainSoundToken");
    node.onExecuted(output);
}"""


def test_a_curve_begins_where_its_run_did_and_the_last_word_is_read(tab, renderer):
    page = tab(renderer)
    browser = page.page
    page.load(page.template("sound_to_picture"))
    page.show("AAI_TrainSoundToken")
    curve = {"begun": 300, "step": 400, "total": 500, "losses": [0.4, 0.3], "means": [0.4, 0.39]}
    note = "Stopped at step 400: the validation loss had not fallen for 3 times."
    browser.evaluate(TELL, {"curve": [curve], "text": [note]})
    points = browser.locator(".aai-losses").get_attribute("points").split()
    assert [float(p.split(",")[0]) for p in points] == [650, 750]
    line, told = browser.locator(".aai-curve .aai-line"), browser.locator(".aai-note:visible")
    assert "step 400 of 500" in line.inner_text() and told.inner_text() == note
    assert told.evaluate("e => e.scrollWidth <= e.clientWidth")
    box, whole = (browser.locator(view).bounding_box() for view in (".aai-plot", ".aai-curve"))
    assert box["y"] + box["height"] <= whole["y"] + whole["height"]
    for share, step in ((0.1, 350), (0.65, 350), (0.75, 400), (0.95, 400)):
        browser.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        assert f"step {step}:" in line.inner_text()
    page.shot("training-said")
    # The next run has nothing to say.
    browser.evaluate(TELL, {"curve": [{**curve, "begun": 0, "step": 1, "losses": [0.5], "means": [0.5]}]})
    assert not told.is_visible() and "step 1 of 500" in line.inner_text()
    assert page.complaints == []


NEW = """(kind) => {
    app.graph.clear();
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    const at = node.widgets.findIndex((w) => w.name === "control_after_generate");
    return [node.widgets[at].value, at];
}"""


def test_a_new_node_keeps_its_seed_and_a_saved_one_its_choice(tab, renderer):
    page = tab(renderer)
    for kind in ("AAI_TrainSoundToken", "AAI_AlignAudioEncoder"):
        control, at = page.page.evaluate(NEW, kind)
        assert control == "fixed"
        saved = page.saved()
        saved["nodes"][0]["widgets_values"][at] = "randomize"
        page.load(saved)
        assert page.value(kind, "control_after_generate") == "randomize"
    assert page.complaints == []
