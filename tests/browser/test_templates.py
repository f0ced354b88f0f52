"""Templates in the browser: they open without a fault, run by the Run button, and repeat their picture."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from aai.demo.comfy_server import Result

STEPS = 14
LOADERS = {"UNETLoader", "CLIPLoader", "VAELoader"}
"""Core's nodes that mark a file which is not there: those of a template that needs a model of its own."""


def node_faults(tab) -> list:
    return tab.page.evaluate(
        """() => app.graph._nodes.filter((n) => n.has_errors
            || !(n.type in LiteGraph.registered_node_types)).map((n) => n.type)"""
    )


def overlaps(tab) -> list:
    """Pairs of nodes that cover each other; Nodes 2.0 draws them taller than the canvas does."""
    return tab.page.evaluate(
        """() => {
            const title = LiteGraph.NODE_TITLE_HEIGHT, scale = app.canvas.ds.scale;
            const boxes = app.graph._nodes.map((n) => {
                const drawn = document.querySelector(`[data-node-id="${n.id}"]`)?.getBoundingClientRect();
                const size = [Math.max(n.size[0], (drawn?.width ?? 0) / scale),
                              Math.max(n.size[1] + title, (drawn?.height ?? 0) / scale)];
                return { type: n.type, from: [n.pos[0], n.pos[1] - title], size };
            });
            const cover = (a, b) => [0, 1].every((i) =>
                a.from[i] < b.from[i] + b.size[i] && b.from[i] < a.from[i] + a.size[i]);
            return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => cover(a, b))
                .map((b) => `${a.type} and ${b.type}`));
        }"""
    )


def pictures(server, entry: dict) -> list[bytes]:
    assert entry["status"]["status_str"] == "success", entry["status"]
    # The file holds the workflow as well, which knows how often it was saved.
    files = server.pictures(Result("", entry["outputs"], 0.0))
    return [Image.open(file).convert("RGB").tobytes() for file in files]


def forget(server) -> None:
    """Makes ComfyUI drop what it keeps of earlier runs.

    Its worker looks at what /free asks for when it wakes or has run something; asked while it collects
    garbage, it would run the next prompt first. So something small is that prompt.
    """
    server.post("/free", {"unload_models": False, "free_memory": True})
    server.run(
        {
            "1": {"class_type": "PrimitiveInt", "inputs": {"value": 1}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
    )


def test_every_template_opens_without_a_fault(tab, server, renderer):
    page = tab(renderer, "light" if renderer == "vue" else "dark")
    names = server.get("/api/workflow_templates")["aai-sound-tokens"]
    assert len(names) >= 5
    for name in names:
        page.load(page.template(name))
        page.page.wait_for_timeout(300)
        assert set(node_faults(page)) <= (LOADERS if name == "sound_film_wan" else set()), name
        page.show()
        assert overlaps(page) == [], name
        page.shot(f"template-{name}")
    assert page.complaints == []


def test_workflows_that_0_1_0_saved_open_without_a_fault(tab, newest):
    page = tab(newest)
    paths = sorted((Path(__file__).parents[1] / "fixtures" / "0.1.0" / "workflows").glob("*.json"))
    assert len(paths) >= 5
    for path in paths:
        saved = json.loads(path.read_text(encoding="utf-8"))
        page.load(saved)
        page.page.wait_for_timeout(300)
        assert node_faults(page) == [], path.stem
        # New widgets come last, so each value is still its widget's.
        now = {node["id"]: node.get("widgets_values", []) for node in page.saved()["nodes"]}
        for node in saved["nodes"]:
            if node["type"].startswith("AAI_"):
                kept = node.get("widgets_values", [])
                assert now[node["id"]][: len(kept)] == kept, (path.stem, node["type"])
    assert page.complaints == []


def test_the_first_template_makes_its_word_at_once(tab, server):
    """Train Sound Token is bypassed, and hands the instant token on."""
    page = tab()
    page.load(page.template("sound_to_picture"))
    page.set("KSampler", steps=4)
    page.set("EmptyLatentImage", batch_size=1)
    page.run()
    entry = page.wait()
    assert len(pictures(server, entry)) == 1
    prompt = entry["prompt"][2]
    kinds = [node["class_type"] for node in prompt.values()]
    assert "AAI_InstantSoundToken" in kinds and "AAI_TrainSoundToken" not in kinds
    assert page.complaints == []


def test_the_generate_template_runs_and_a_saved_workflow_gives_the_same_picture(tab, server, renderer):
    page = tab(renderer, "dark" if renderer == "vue" else "light")
    page.load(page.template("sound_to_picture"))
    page.wake()
    page.set("AAI_LoadAudio", start=1.0, length=2.5)
    page.set("AAI_TrainSoundToken", steps=STEPS)
    page.set("AAI_SaveSoundToken", overwrite=True)
    page.set("KSampler", steps=6)
    page.set("EmptyLatentImage", batch_size=1)
    forget(server)
    page.show("AAI_LoadAudio", "AAI_EncodeSound", "AAI_RetrieveReferenceImages", "AAI_TrainSoundToken")
    page.run()
    drawn = "() => document.querySelector('.aai-losses')?.getAttribute('points')?.split(' ').length ?? 0"
    page.page.wait_for_function(f"{drawn.removeprefix('() => ')} >= 2", timeout=120000)
    early = page.page.evaluate(drawn)
    page.shot("training")
    page.page.wait_for_function(f"{drawn.removeprefix('() => ')} > {early}", timeout=60000)
    first = pictures(server, page.wait())
    assert len(first) == 1
    assert page.page.evaluate(drawn) == STEPS
    page.page.wait_for_function(
        "Object.values(app.nodeOutputs).some((o) => o.images?.some((i) => i.type === 'output'))"
    )
    assert page.page.locator(".aai-words li").count() == 5
    assert page.page.locator(".aai-words li").first.inner_text().split("\n")[0] == "thunder"
    assert page.page.locator(".aai-references img").count() == 4
    page.show()
    page.shot("generated")
    page.show("AAI_LoadAudio", "AAI_EncodeSound", "AAI_RetrieveReferenceImages", "AAI_TrainSoundToken")
    page.shot("found")
    assert page.complaints == []

    saved = page.saved()
    forget(server)
    page.open()
    page.load(saved)
    assert (page.value("AAI_LoadAudio", "start"), page.value("AAI_LoadAudio", "length")) == (1.0, 2.5)
    page.run()
    again = page.wait()
    assert not any(kind == "execution_cached" and data["nodes"] for kind, data in again["status"]["messages"])
    assert pictures(server, again) == first


def test_cancel_stops_the_training(tab, server):
    page = tab()
    page.load(page.template("sound_to_picture"))
    page.wake()
    page.set("AAI_TrainSoundToken", steps=5000, name="stopped")
    page.run()
    page.page.wait_for_function(
        "document.querySelector('.aai-losses')?.getAttribute('points')?.split(' ').length >= 2",
        timeout=120000,
    )
    page.page.locator('button[aria-label="Cancel current run"]').first.click()
    entry = page.wait(timeout=30)
    kinds = [kind for kind, _ in entry["status"]["messages"]]
    assert "execution_interrupted" in kinds and "execution_error" not in kinds
    kept = (server.base / "models" / "embeddings").glob("stopped-step*.safetensors")
    assert len(list(kept)) == 1
    # What was drawn stays.
    assert "of 5000" in page.page.locator(".aai-curve .aai-line").inner_text()
    assert page.complaints == []
