"""Templates in APP mode and blueprints from the search: what they show, and that they run."""

from __future__ import annotations

import pytest

from aai import audio
from aai.demo.comfy_server import Result
from aai.soundworld.outside import synthesize_outside

ITEMS = "[data-testid=app-mode-widget-item]"
BLUEPRINTS = ("Sound to picture", "Sound edits a picture", "Sound to film")


def enter_app(tab) -> None:
    tab.command("Comfy.ToggleLinear")
    tab.page.locator('[data-testid="linear-run-button"]').first.wait_for()
    # Newer front ends offer a tour to whom they have not seen.
    tab.page.wait_for_timeout(800)
    overlay = tab.page.locator('[data-testid="coach-landing-overlay"]')
    if overlay.count():
        tab.page.get_by_role("button", name="Skip").click()
        overlay.wait_for(state="detached")


def labels(tab) -> list[str]:
    return [item.inner_text().splitlines()[0] for item in tab.page.locator(ITEMS).all()]


@pytest.mark.usefixtures("has_apps")
def test_a_template_runs_in_app_mode(tab, server, newest):
    page = tab(newest)
    page.load(page.template("sound_to_picture"))
    page.set("KSampler", steps=4)
    page.set("EmptyLatentImage", batch_size=1)
    enter_app(page)
    assert labels(page) == ["audio", "prompt"]
    page.page.locator(f"{ITEMS} textarea").fill("a city under *")
    page.run()
    entry = page.wait()
    assert entry["status"]["status_str"] == "success", entry["status"]
    asked = [node["inputs"].get("prompt") for node in entry["prompt"][2].values()]
    assert "a city under *" in asked
    shown = page.page.locator('[data-testid="linear-center-panel"] img[src*="sound_to_picture"]')
    shown.first.wait_for()
    page.shot("app")
    assert page.complaints == []


@pytest.mark.usefixtures("has_apps")
def test_app_mode_says_that_a_sound_is_not_known(tab, server, newest):
    page = tab(newest)
    audio.save(synthesize_outside("strings", 77), server.input / "quartet.wav")
    page.load(page.template("sound_to_picture"))
    page.set("AAI_LoadAudio", audio="quartet.wav")
    page.set("KSampler", steps=1)
    page.set("EmptyLatentImage", batch_size=1)
    told = page.toasts("The picture may show what the sound is most like")
    page.show("AAI_EncodeSound")
    page.run()
    page.wait()
    assert page.page.locator(".aai-outside").is_visible()
    assert told.count() == 0
    enter_app(page)
    page.run()
    page.wait()
    told.wait_for()
    page.shot("app-unknown")
    assert page.complaints == []


@pytest.mark.usefixtures("has_apps")
def test_a_film_shows_in_app_mode(tab, server, newest):
    page = tab(newest)
    page.load(page.template("sound_film"))
    page.set("AAI_LoadAudio", length=1.5)
    page.set("KSampler", steps=2)
    enter_app(page)
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    page.page.locator('[data-testid="linear-center-panel"] video').first.wait_for()
    page.shot("app-film")
    assert page.complaints == []


@pytest.mark.usefixtures("has_apps")
def test_every_template_has_its_inputs_in_app_mode(tab, server, newest):
    page = tab(newest)
    for name in server.get("/api/workflow_templates")["aai-sound-tokens"]:
        template = page.template(name)
        page.load(template)
        enter_app(page)
        slots = {(str(n["id"]), s["name"]): s for n in template["nodes"] for s in n.get("inputs", ())}
        shown = [slots[node, widget] for node, widget in template["extra"]["linearData"]["inputs"]]
        assert labels(page) == [slot.get("label", slot["name"]) for slot in shown], name
        page.shot(f"app-{name}")
        page.command("Comfy.ToggleLinear")
    assert page.complaints == []


@pytest.mark.usefixtures("has_apps")
def test_a_blueprint_comes_from_the_search_and_runs(tab, server, newest):
    page = tab(newest)
    page.load({"nodes": [], "links": [], "version": 0.4})
    for name in BLUEPRINTS:
        page.command("Workspace.SearchBox.Toggle")
        box = page.page.get_by_role("combobox").or_(page.page.locator("input[role=searchbox]")).last
        box.fill(name)
        page.page.wait_for_timeout(800)
        box.press("Enter")
        page.page.wait_for_timeout(500)
        page.page.mouse.click(800, 500)
        page.page.wait_for_function("n => app.graph._nodes.some((x) => x.title === n)", arg=name)
    page.page.evaluate(
        """() => {
            const graph = app.graph, place = (node, x, y) => { node.pos = [x, y]; return node; };
            graph._nodes.forEach((node, i) => place(node, 400 + 420 * i, 60));
            const add = (type, x) => {
                const node = place(LiteGraph.createNode(type), x, 60);
                graph.add(node);
                return node;
            };
            const widget = (node, name) => node.widgets.find((w) => w.name === name);
            const sound = add("AAI_LoadAudio", 40), save = add("SaveImage", 1700);
            widget(sound, "audio").value = "thunder.wav";
            const draw = graph._nodes.find((n) => n.title === "Sound to picture");
            sound.connect(0, draw, draw.inputs.findIndex((i) => i.name === "audio"));
            draw.connect(0, save, 0);
            for (const n of graph._nodes) if (n.subgraph && n !== draw) n.mode = 2;
            widget(draw.subgraph.nodes.find((n) => n.type === "KSampler"), "steps").value = 4;
        }"""
    )
    page.show()
    page.shot("blueprints")
    page.run()
    entry = page.wait()
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert len(server.pictures(Result("", entry["outputs"], 0.0))) == 1
    assert page.complaints == []
