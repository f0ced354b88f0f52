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
