"""What went wrong, on the node where it did: a server that goes away, and the pack's own sentences."""

from __future__ import annotations

EDGES = """(gap) => {
    const title = LiteGraph.NODE_TITLE_HEIGHT, scale = app.canvas.ds.scale;
    const find = (type) => app.graph._nodes.find((n) => n.type === type);
    const height = (n) => Math.max(n.size[1], (document.querySelector(`[data-node-id="${n.id}"]`)
        ?.getBoundingClientRect().height ?? 0) / scale - title);
    const train = find("AAI_TrainSoundToken"), save = find("AAI_SaveSoundToken");
    const bottom = train.pos[1] + height(train);
    if (gap !== null) save.pos = [save.pos[0], bottom + gap + title];
    return [bottom, save.pos[1] - title];
}"""
"""The bottom of Train Sound Token and the top of the node below, which is put `gap` below it unless null."""


def test_a_server_that_goes_away_is_told_on_the_node(tab, server, renderer):
    page = tab(renderer)
    page.load(page.template("sound_to_picture"))
    page.wake()
    page.page.evaluate(EDGES, 10)
    page.set("AAI_TrainSoundToken", steps=5000)
    page.show("AAI_TrainSoundToken")
    page.run()
    page.page.wait_for_function(
        "document.querySelector('.aai-losses')?.getAttribute('points')?.split(' ').length >= 2",
        timeout=120000,
    )
    server.stop()
    try:
        notice = page.page.locator(".aai-told")
        notice.wait_for(timeout=15000)
        assert "The server went away while this node ran, at step" in notice.inner_text()
        assert "Start ComfyUI again, then press Run." in notice.inner_text()
        page.show("AAI_TrainSoundToken", "AAI_SaveSoundToken")
        page.shot("server-gone")
        # The notice pushes the node over none.
        bottom, below = page.page.evaluate(EDGES, None)
        assert bottom <= below
    finally:
        server.start()
    # The tab finds the server again by itself; the next run clears the notice.
    page.set("AAI_TrainSoundToken", steps=1)
    page.set("KSampler", steps=1)
    page.page.wait_for_timeout(1500)
    page.run()
    page.page.locator(".aai-told").wait_for(state="detached", timeout=30000)
    assert page.wait()["status"]["status_str"] == "success"
    assert page.complaints == []


def test_a_sentence_covers_no_other_node_where_there_is_no_room(tab, renderer):
    page = tab(renderer)
    page.load(page.template("word_weight"))
    page.set("AAI_LoudnessReweight", tokens="sea")
    page.show("AAI_LoudnessReweight", "EmptyLatentImage")
    page.run()
    notice = page.page.locator(".aai-told")
    notice.wait_for(timeout=60000)
    assert "nor the word 'sea'" in notice.inner_text()
    page.shot("no-room")
    below = page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find((n) => n.type === "EmptyLatentImage"), ds = app.canvas.ds;
            const top = (node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT + ds.offset[1]) * ds.scale;
            return top + app.canvas.canvas.getBoundingClientRect().top;
        }"""
    )
    box = notice.bounding_box()
    assert 20 < box["height"] and box["y"] + box["height"] <= below


def test_what_happens_in_another_workflow_changes_nothing_in_the_shown_one(tab, server, renderer):
    page = tab(renderer)
    browser = page.page
    trains = page.template("sound_to_picture")
    page.load(trains)
    page.wake()
    page.set("AAI_TrainSoundToken", steps=5000)
    page.run()
    live = "document.querySelector('.aai-losses')?.getAttribute('points')?.split(' ').length >= 2"
    try:
        browser.wait_for_function(live, timeout=120000)
        # Its error comes when another workflow is shown, whose nodes have the same ids.
        page.load(trains)
        page.set("AAI_LoadAudio", start=900)
        page.run()
        shown = [n for n in trains["nodes"] if n["type"] in ("AAI_TrainSoundToken", "AAI_LoadAudio")]
        bare = [{**n, "inputs": [], "outputs": [], "mode": 0} for n in shown]
        page.load({**trains, "nodes": bare, "links": [], "groups": []})
        page.show()
        browser.wait_for_timeout(2500)
        assert page.busy()
        assert not browser.evaluate(live) and browser.locator(".aai-curve.aai-filled").count() == 0
        for _ in range(2):
            page.command("Workspace.PreviousOpenedWorkflow")
            browser.wait_for_timeout(800)
        browser.wait_for_function(live)
        page.command("Workspace.NextOpenedWorkflow")
        page.command("Workspace.NextOpenedWorkflow")
        browser.wait_for_function("app.graph._nodes.length === 2")
    finally:
        server.post("/interrupt", {})
    last = page.wait()["status"]
    assert last["status_str"] == "error" and "AAI_LoadAudio" in str(last["messages"])
    browser.wait_for_timeout(500)
    assert browser.locator(".aai-told").count() == 0
    page.shot("another-workflow")
    assert page.complaints == []


def test_a_notice_stands_on_our_own_nodes_alone(tab, newest):
    page = tab(newest)
    page.load(page.template("sound_to_picture"))
    count = page.page.evaluate(
        """() => {
            const what = { prompt_id: "elsewhere", exception_type: "InputError", exception_message: "No." };
            const find = (kind) => app.graph._nodes.find((n) => n.type === kind);
            const tell = (kind) => app.api.dispatchCustomEvent(
                "execution_error", { ...what, node_type: kind, node_id: String(find(kind).id) });
            return ["KSampler", "AAI_LoadAudio"].map((kind) => {
                tell(kind);
                return app.graph._nodes.filter((n) => n.widgets?.some((w) => w.name === "notice")).length;
            });
        }"""
    )
    assert count == [0, 1]


def test_what_is_refused_while_ksampler_runs_stands_on_it(tab, renderer):
    page = tab(renderer)
    page.load(page.template("sound_edit"))
    page.set("KSampler", sampler_name="dpm_adaptive", steps=2)
    page.show("KSampler", "VAEDecode")

    def height() -> float:
        return next(node for node in page.saved()["nodes"] if node["type"] == "KSampler")["size"][1]

    before = height()
    page.run()
    notice = page.page.locator(".aai-told")
    notice.wait_for(timeout=60000)
    assert "dpm_adaptive" in notice.inner_text()
    page.shot("on-ksampler")
    # Nodes 2.0 lets a node that failed grow by a strip that says so.
    assert height() == before or renderer == "vue"
    assert page.complaints == []


def test_a_notices_height_is_not_saved(tab, renderer):
    page = tab(renderer)
    page.load(page.template("sound_to_picture"))

    def sizes(workflow: dict) -> list:
        return [n["size"] for n in workflow["nodes"] if n["type"] == "AAI_LoadAudio"]

    page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
            const below = app.graph._nodes.filter((n) => n.pos[1] > node.pos[1]);
            for (const n of below) n.pos = [n.pos[0], n.pos[1] + 600];
        }"""
    )
    page.show("AAI_LoadAudio")
    before = sizes(page.saved())
    page.set("AAI_LoadAudio", start=900)
    page.run()
    page.page.locator(".aai-told").wait_for(timeout=30000)
    page.page.wait_for_timeout(1000)
    shown = page.page.evaluate("[...app.graph._nodes.find((n) => n.type === 'AAI_LoadAudio').size]")
    assert shown[1] > before[0][1] + 20
    saved = page.saved()
    assert sizes(saved) == before
    page.load(saved)
    page.page.wait_for_timeout(500)
    assert sizes(page.saved()) == before
    assert page.complaints == []
