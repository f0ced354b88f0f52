"""A real ComfyUI with the pack, its own front end in Debian's Chromium, and what a person does there.

Screenshots go to out/browser/ for a person to look at.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from aai import audio
from aai.demo.comfy_server import ComfyServer, version
from aai.soundworld.pictures import render
from aai.soundworld.sounds import synthesize

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "out" / "browser"
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.Persist": False,
    "Comfy.Locale": "en",
    "Comfy.Minimap.Visible": False,
    "Comfy.UseNewMenu": "Top",
}


def front_end() -> tuple[int, int]:
    """The front end's version; (0, 0) where there is none."""
    try:
        known = importlib.metadata.version("comfyui_frontend_package").split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        known = ["0", "0"]
    return tuple(map(int, known))


def renderers() -> list[str]:
    """The front end's node renderers. Nodes 2.0 shows elements of packs only in newer ones: before 1.40 there
    is the canvas alone."""
    return ["canvas", "vue"] if front_end() >= (1, 40) else ["canvas"]


def pytest_generate_tests(metafunc):
    if "renderer" in metafunc.fixturenames:
        *older, newest = renderers()
        values = [*(pytest.param(name, marks=pytest.mark.all) for name in older), newest]
        metafunc.parametrize("renderer", values, scope="session")


@pytest.fixture(scope="session")
def newest() -> str:
    """The newest renderer, for what is long and much the same in each."""
    return renderers()[-1]


@pytest.fixture
def has_apps() -> None:
    """A skip where the front end has no APP mode."""
    if front_end() < (1, 42):
        pytest.skip("this front end has no APP mode")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; where it or its driver is missing, a skip."""
    pytest.importorskip(
        "playwright.sync_api", reason='no playwright: pip install "aai-sound-tokens[browser]"'
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium for the browser tests: apt-get install chromium")
    return found


# Of a module, not of the session: as long as the driver lives, its event loop runs in this thread, and no
# test that runs one of its own can.
@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-background-networking", "--force-color-profile=srgb"]
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(comfy_path, chromium, tmp_path_factory):
    with ComfyServer(comfy_path, tmp_path_factory.mktemp("browser"), ROOT) as server:
        for event in ("thunder", "fire", "fireworks"):
            audio.save(synthesize(event, 0.8, seed=11), server.input / f"{event}.wav")
        Image.fromarray(render("beach", None, 0.5, seed=11)).save(server.input / "beach.png")
        yield server


@pytest.fixture
def tab(browser, server, comfy_path):
    """tab(renderer, palette, language) -> a Tab of its own, closed at the end."""
    opened = []

    def open_tab(renderer: str = "canvas", palette: str = "dark", language: str = "en") -> Tab:
        changed = {
            "Comfy.VueNodes.Enabled": renderer == "vue",
            "Comfy.ColorPalette": palette,
            "Comfy.Locale": language,
        }
        server.post("/settings", {**SETTINGS, **changed})
        opened.append(Tab(browser, server, f"{version(comfy_path)}-{renderer}-{palette}"))
        return opened[-1]

    yield open_tab
    for one in opened:
        one.page.close()


class Tab:
    """One browser tab on ComfyUI: the page, and what a person does with it."""

    def __init__(self, browser, server, name: str):
        self.server, self.name = server, name
        self.page = browser.new_page(viewport={"width": 1600, "height": 1000})
        self.page.set_default_timeout(30000)
        self.complaints: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda e: self._blame(f"{e.message} {e.stack}"))
        self.open()

    def open(self) -> None:
        self.page.goto(self.server.url)
        self.page.wait_for_function("window.app?.graph && window.app.canvas && app.extensionManager")
        self.page.wait_for_function(
            "LiteGraph.registered_node_types['AAI_LoadAudio'] && !app.configuringGraph"
        )
        self.page.wait_for_timeout(500)

    def _hear(self, message) -> None:
        if message.type in ("error", "warning"):
            self._blame(f"{message.text} {message.location.get('url', '')}")

    def _blame(self, text: str) -> None:
        if "aai" in text.lower():
            self.complaints.append(text)

    def load(self, workflow: dict) -> None:
        self.page.evaluate("async (w) => { await app.loadGraphData(w); }", workflow)
        self.page.wait_for_function("n => app.graph._nodes.length === n", arg=len(workflow["nodes"]))

    def template(self, name: str) -> dict:
        return self.server.get(f"/api/workflow_templates/aai-sound-tokens/{name}.json")

    def saved(self) -> dict:
        """The workflow as Save writes it."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).workflow")

    def wake(self) -> None:
        """Makes every bypassed node run, as Ctrl+B does."""
        self.page.evaluate("() => { for (const n of app.graph._nodes) if (n.mode === 4) n.mode = 0; }")

    def toasts(self, text: str):
        """The toasts that say so, in older front ends and in newer ones."""
        return self.page.locator(".p-toast-message, [data-testid=toast]", has_text=text)

    def command(self, name: str) -> None:
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def set(self, kind: str, **values) -> None:
        """Types values into a node's widgets."""
        self.page.evaluate(
            """([kind, values]) => {
                const node = app.graph._nodes.find((n) => n.type === kind);
                for (const [name, value] of Object.entries(values)) {
                    const widget = node.widgets.find((w) => w.name === name);
                    widget.value = value;
                    widget.callback?.(value, app.canvas, node);
                }
                app.graph.setDirtyCanvas(true, true);
            }""",
            [kind, values],
        )

    def value(self, kind: str, name: str):
        return self.page.evaluate(
            "([k, n]) => app.graph._nodes.find((x) => x.type === k).widgets.find((w) => w.name === n).value",
            [kind, name],
        )

    def show(self, *kinds: str) -> None:
        """Brings nodes into view, as large as fits."""
        self.page.evaluate(
            """(kinds) => {
                const nodes = app.graph._nodes.filter((n) => !kinds.length || kinds.includes(n.type));
                const edge = (f, side) => Math[f](...nodes.map(side));
                const left = edge("min", (n) => n.pos[0]), top = edge("min", (n) => n.pos[1] - 40);
                const right = edge("max", (n) => n.pos[0] + n.size[0]);
                const bottom = edge("max", (n) => n.pos[1] + n.size[1]);
                const scale = Math.min(1450 / (right - left), 820 / (bottom - top), 1.5);
                app.canvas.ds.scale = scale;
                app.canvas.ds.offset = [90 / scale - left, 110 / scale - top];
                app.canvas.setDirty(true, true);
            }""",
            list(kinds),
        )
        self.page.wait_for_timeout(400)

    def run(self) -> None:
        """Presses Run, of the graph's or APP mode's."""
        run = '[data-testid="queue-button"], .p-splitbutton-button[aria-label="Run"]'
        run += ', [data-testid="linear-run-button"] button:has-text("Run")'
        before = len(self._history())
        self.page.locator(run).locator("visible=true").first.click()
        deadline = time.monotonic() + 20
        while not self.busy() and len(self._history()) == before and time.monotonic() < deadline:
            self.page.wait_for_timeout(100)

    def busy(self) -> bool:
        queue = self.server.get("/queue")
        return bool(queue["queue_running"] or queue["queue_pending"])

    def wait(self, timeout: float = 400.0) -> dict:
        """Waits until nothing runs; returns the last run's entry in the history."""
        deadline = time.monotonic() + timeout
        while self.busy():
            assert time.monotonic() < deadline, self.server.log[-2000:]
            self.page.wait_for_timeout(200)
        self.page.wait_for_timeout(600)
        return list(self._history().values())[-1]

    def _history(self) -> dict:
        return self.server.get("/history")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=os.fspath(SHOTS / f"{self.name}-{name}.png"))
