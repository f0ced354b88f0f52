"""Load Audio in the browser: upload, trim, play, and sounds that only one side can read."""

from __future__ import annotations

import contextlib
import shutil
import wave

import av
import numpy as np
import pytest

from aai import audio
from aai.soundworld.outside import synthesize_outside
from aai.soundworld.sounds import synthesize


@pytest.fixture(scope="module")
def rooster(tmp_path_factory):
    """A recording of 5 s outside ComfyUI's folders."""
    path = tmp_path_factory.mktemp("mine") / "my rooster.wav"
    audio.save(synthesize("rooster", 0.7, seed=3), path)
    return path


@pytest.fixture
def film(tmp_path):
    """A video of 5 s with a sound track."""
    path = tmp_path / "a storm.mp4"
    heard = synthesize("thunder", 0.9, seed=4).mono()
    with av.open(str(path), "w") as container:
        sight, sound = container.add_stream("mpeg4", rate=5), container.add_stream("aac", rate=heard.rate)
        sight.width = sight.height = 64
        for shade in range(25):
            picture = np.full((64, 64, 3), shade, dtype=np.uint8)
            container.mux(sight.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        frame = av.AudioFrame.from_ndarray(heard.waveform.numpy(), format="fltp", layout="mono")
        frame.rate = heard.rate
        container.mux(sound.encode(frame))
        for stream in (sight, sound):
            container.mux(stream.encode(None))
    return path


def loaded(tab, renderer: str, palette: str = "dark"):
    page = tab(renderer, palette)
    page.load(page.template("sound_to_picture"))
    page.show("AAI_LoadAudio", "AAI_EncodeSound")
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    return page


def upload(page, renderer: str, file) -> None:
    """Chooses a file by the node's own upload button."""
    if renderer == "vue":
        node = page.page.locator(".lg-node", has=page.page.locator(".aai-waveform"))
        dialog = node.locator("input[type=file]").first
        dialog.evaluate("e => { e.addEventListener('click', (c) => c.preventDefault()); e.click(); }")
        assert ".caf" in dialog.get_attribute("accept").split(",")
        dialog.set_input_files(file)
    else:
        chooser = chosen(page)
        accepted = chooser.element.get_attribute("accept").split(",")
        assert accepted[:2] == ["audio/*", "video/*"] and set(accepted[2:]) == audio.SUFFIXES
        chooser.set_files(file)
    page.page.wait_for_function(
        "n => app.graph._nodes.find((x) => x.type === 'AAI_LoadAudio').widgets[0].value === n", arg=file.name
    )


def chosen(page):
    """The file dialog that the node's upload button opens; on a slow machine the button may still move."""
    from playwright.sync_api import Error, TimeoutError

    for _ in range(3):
        at = page.page.evaluate(
            """() => {
                app.canvas.draw(true, true); // which places the widgets
                const node = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
                const button = node.widgets.find((w) => w.name === "upload");
                const y = (button.y ?? button.last_y) + 10;
                return app.canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] + y]);
            }"""
        )
        box = page.page.locator("#graph-canvas").bounding_box()
        page.page.mouse.move(box["x"] + at[0], box["y"] + at[1])
        page.page.wait_for_timeout(200)
        with contextlib.suppress(TimeoutError), page.page.expect_file_chooser(timeout=8000) as chooser:
            page.page.mouse.down()
            page.page.mouse.up()
        with contextlib.suppress(TimeoutError, Error):
            return chooser.value
    pytest.fail("the upload button opens no dialog")


def drop(page, file) -> None:
    """Drops a video from outside on the node."""
    drop_files(page, (file.name, "video/mp4", file.read_bytes()))
    page.page.wait_for_function(
        "n => app.graph._nodes.find((x) => x.type === 'AAI_LoadAudio').widgets[0].value === n", arg=file.name
    )


def drop_files(page, *files: tuple[str, str, bytes]) -> None:
    """Drops files {name, type, bytes} on the node, as a hand with a mouse would."""
    page.page.evaluate(
        """async (dropped) => {
            const node = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
            const files = new DataTransfer();
            for (const [name, type, bytes] of dropped) {
                files.items.add(new File([new Uint8Array(bytes)], name, { type }));
            }
            const middle = [node.pos[0] + node.size[0] / 2, node.pos[1] + 40];
            const [x, y] = app.canvas.ds.convertOffsetToCanvas(middle);
            const box = app.canvas.canvas.getBoundingClientRect();
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const at = { clientX: box.x + x, clientY: box.y + y };
                const event = { bubbles: true, cancelable: true, dataTransfer: files, ...at };
                app.canvas.canvas.dispatchEvent(new DragEvent(kind, event));
                await new Promise((done) => setTimeout(done, 100));
            }
        }""",
        [(name, kind, list(content)) for name, kind, content in files],
    )


def drag(page, handle: str, to: float) -> None:
    """Drags a handle with the mouse to a share of the waveform's width."""
    wave = page.page.locator(".aai-wave").bounding_box()
    grip = page.page.locator(f".aai-handle.aai-{handle}").bounding_box()
    page.page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.page.mouse.down()
    for share in (0.5, 1.0):
        x = grip["x"] + (wave["x"] + wave["width"] * to - grip["x"]) * share
        page.page.mouse.move(x, wave["y"] + 10)
    page.page.mouse.up()


def part(page) -> tuple[float, float]:
    return page.value("AAI_LoadAudio", "start"), page.value("AAI_LoadAudio", "length")


def test_a_sound_is_uploaded_trimmed_and_played(tab, renderer, rooster, server):
    page = loaded(tab, renderer, "light" if renderer == "canvas" else "dark")
    fire = page.page.locator(".aai-whole path").get_attribute("d")
    upload(page, renderer, rooster)
    drawn = "document.querySelector('.aai-whole path').getAttribute('d')"
    page.page.wait_for_function(f"before => {drawn} !== before", arg=fire)
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    assert (server.input / rooster.name).is_file()
    assert part(page) == (0.0, 0.0)
    drag(page, "end", 0.6)
    assert part(page) == (0.0, pytest.approx(3.0, abs=0.15))
    drag(page, "start", 0.2)
    start, length = part(page)
    assert start == pytest.approx(1.0, abs=0.15) and start + length == pytest.approx(3.0, abs=0.15)
    page.page.locator(".aai-handle.aai-start").focus()
    page.page.keyboard.press("ArrowRight")
    assert part(page)[0] == pytest.approx(start + 0.1)
    page.shot("trimmed")

    page.page.locator(".aai-play").click()
    head = page.page.locator(".aai-playhead")
    head.wait_for()
    first = head.evaluate("e => parseFloat(e.style.left)")
    assert first == pytest.approx(100 * part(page)[0] / 5, abs=8)
    page.page.wait_for_function(
        f"parseFloat(document.querySelector('.aai-playhead').style.left) > {first + 2}"
    )
    # It ends with the part.
    head.wait_for(state="hidden")
    assert page.page.locator(".aai-play").inner_text() == "▶"
    assert page.complaints == []


def test_undo_takes_a_dragged_handle_back(tab, renderer):
    page = loaded(tab, renderer)
    parts = [part(page)]
    drag(page, "end", 0.6)
    parts.append(part(page))
    drag(page, "start", 0.2)
    parts.append(part(page))
    page.page.locator(".aai-handle.aai-end").dblclick()
    assert part(page) == (0, 0) and len(set(parts)) == 3
    for before in reversed(parts):
        page.command("Comfy.Undo")
        assert part(page) == before
        page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    assert page.complaints == []


def test_a_file_that_nobody_announces_is_loaded(tab, server):
    (server.input / "mine").mkdir(exist_ok=True)
    audio.save(synthesize("rain", 0.8, seed=5, seconds=3), server.input / "mine" / "a rain.wav")
    page = loaded(tab, "canvas")
    page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
            node.widgets[0].value = "mine/a rain.wav";
            app.graph.setDirtyCanvas(true, true);
        }"""
    )
    drawn = page.page.get_by_text("0.0 s to 3.0 s, 3.0 s of 3.0 s")
    drawn.wait_for()
    page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
            app.canvas.copyToClipboard([node]);
            app.graph.remove(node);
            app.canvas.pasteFromClipboard();
        }"""
    )
    drawn.wait_for()
    assert page.complaints == []
    shutil.rmtree(server.input / "mine")


def test_what_comes_by_a_link_is_not_chosen_on_the_node(tab, renderer):
    page = loaded(tab, renderer)

    def link(name: str) -> None:
        page.page.evaluate(
            """(name) => {
                const node = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
                const into = node.inputs.findIndex((i) => i.widget?.name === name);
                const source = LiteGraph.createNode("PrimitiveNode");
                app.graph.add(source);
                source.connect(0, node, into);
            }""",
            name,
        )
        page.page.wait_for_timeout(300)

    drag(page, "end", 0.6)
    chosen = part(page)
    link("length")
    drag(page, "end", 0.9)
    assert part(page) == chosen
    drag(page, "start", 0.2)
    assert part(page) == (pytest.approx(1.0, abs=0.15), chosen[1])
    page.shot("linked")
    link("audio")
    page.page.get_by_text("The sound comes by a link.").wait_for()
    page.page.evaluate("app.graph._nodes.find((n) => n.type === 'AAI_LoadAudio').disconnectInput('audio')")
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    assert page.complaints == []


def test_a_part_ends_in_a_hidden_tab_and_with_its_view(tab, newest):
    page = loaded(tab, newest)
    button = page.page.locator(".aai-play").element_handle()

    def ends() -> None:
        page.page.wait_for_function("b => b.textContent === '▶'", arg=button, polling=50, timeout=3000)

    page.set("AAI_LoadAudio", start=1.0, length=1.0)
    button.click()
    page.page.evaluate(
        "() => { window.before = requestAnimationFrame; window.requestAnimationFrame = () => 0; }"
    )
    ends()
    page.page.evaluate("() => { window.requestAnimationFrame = window.before; }")
    page.set("AAI_LoadAudio", length=0.0)
    button.click()
    page.page.evaluate("() => document.querySelector('.aai-waveform').remove()")
    ends()
    assert page.complaints == []


def test_what_a_node_says_of_its_result_stands_on_it(tab, renderer):
    page = loaded(tab, renderer)
    page.show("AAI_InstantSoundToken", "AAI_SaveSoundToken")
    said = page.page.locator(".aai-said")
    height = "() => app.graph._nodes.find((n) => n.type === 'AAI_SaveSoundToken').size[1]"
    before = page.page.evaluate(height)
    page.page.evaluate(HEAR, ["AAI_InstantSoundToken", {"text": []}])
    assert said.count() == 0
    for text in (["embedding:sea"], ["embedding:sea", "(<b>no prompt</b> reads it) " + 12 * "and so on "]):
        page.page.evaluate(HEAR, ["AAI_SaveSoundToken", {"text": text}])
        said.filter(has_text=text[-1].strip()).wait_for()
        assert said.inner_text() == " ".join(text).strip()
        page.page.wait_for_timeout(300)
        assert said.evaluate("e => e.scrollHeight <= e.clientHeight")
    page.shot("said")
    page.page.evaluate(HEAR, ["AAI_SaveSoundToken", {"text": []}])
    said.wait_for(state="detached")
    assert page.page.evaluate(height) == before or renderer == "vue"
    assert page.complaints == []


def test_a_sound_stops_where_its_subgraph_is_left(tab, renderer):
    page = loaded(tab, renderer)
    page.page.evaluate(
        """() => {
            const audio = app.graph._nodes.find((n) => n.type === "AAI_LoadAudio");
            const { node, subgraph } = app.graph.convertToSubgraph(new Set([audio]));
            app.canvas.openSubgraph(subgraph, node);
        }"""
    )
    page.page.wait_for_timeout(500)
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    button = page.page.locator(".aai-play").element_handle()
    button.click()
    assert button.inner_text() == "■"
    page.page.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
    page.page.wait_for_function("b => b.textContent === '▶'", arg=button, timeout=2000)
    assert page.complaints == []


@pytest.mark.parametrize("source", ["button", "drop"])
def test_a_videos_sound_is_a_sound(tab, server, film, source):
    page = loaded(tab, "canvas")
    if source == "button":
        upload(page, "canvas", film)
    else:
        drop(page, film)
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    only(page, "AAI_LoadSoundWorld", "AAI_LoadAudio", "AAI_EncodeSound")
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    assert page.page.locator(".aai-words li").first.inner_text().startswith("thunder")
    assert page.complaints == []
    (server.input / film.name).unlink()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_sound_that_the_encoder_does_not_know_is_shown_as_unknown(tab, server, scheme):
    audio.save(synthesize_outside("strings", 77), server.input / "strings.wav")
    page = loaded(tab, "canvas")
    if scheme == "light":
        page.page.evaluate("app.ui.settings.setSettingValueAsync('Comfy.ColorPalette', 'light')")
    page.page.evaluate("app.refreshComboInNodes()")
    page.set("AAI_LoadAudio", audio="strings.wav")
    only(page, "AAI_LoadSoundWorld", "AAI_LoadAudio", "AAI_EncodeSound")
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    first = page.page.locator(".aai-words li").first
    assert first.inner_text().startswith("unknown") and "aai-unknown" in first.get_attribute("class")
    assert page.page.get_by_text("outside of what this encoder knows").is_visible()
    page.shot(f"unknown-{scheme}")
    page.set("AAI_LoadAudio", audio="thunder.wav")
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    page.page.locator(".aai-words li").first.get_by_text("thunder").wait_for()
    assert not page.page.get_by_text("outside of what this encoder knows").is_visible()
    assert page.complaints == []


def test_a_kind_that_the_browser_does_not_know_is_a_sound(tab, server, rooster, tmp_path):
    page = loaded(tab, "canvas")
    content = rooster.read_bytes()
    named = "n => app.graph._nodes.find((x) => x.type === 'AAI_LoadAudio').widgets[0].value === n"
    line = page.page.locator(".aai-waveform .aai-line")

    strange = tmp_path / "by button.W64"
    strange.write_bytes(content)
    upload(page, "canvas", strange)
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()

    # The first that is ours of several.
    drop_files(
        page, ("notes.txt", "text/plain", b"-"), ("by drop.caf", "", content), ("a.mp4", "video/mp4", b"-")
    )
    page.page.wait_for_function(named, arg="by drop.caf")
    line.filter(has_text="5.0 s").wait_for()
    drop_files(page, ("notes.xyz", "", b"-"))
    line.filter(has_text="notes.xyz is no sound or video that this node reads.").wait_for()
    assert page.value("AAI_LoadAudio", "audio") == "by drop.caf"
    page.shot("refused")

    page.page.evaluate(
        """(bytes) => {
            app.canvas.selectItems([app.graph._nodes.find((n) => n.type === "AAI_LoadAudio")]);
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "by paste.wv"));
            const event = { bubbles: true, cancelable: true, clipboardData };
            app.canvas.canvas.dispatchEvent(new ClipboardEvent("paste", event));
        }""",
        list(content),
    )
    page.page.wait_for_function(named, arg="by paste.wv")
    line.filter(has_text="5.0 s").wait_for()
    names = ("by button.W64", "by drop.caf", "by paste.wv")
    assert [(server.input / name).read_bytes() == content for name in names] == [True, True, True]
    assert page.complaints == []


HEAR = """([kind, output]) => {
    const node = app.graph._nodes.find((n) => n.type === kind)?.id ?? 999;
    app.api.dispatchCustomEvent("executed",
        { node: String(node), display_node: String(node), prompt_id: "elsewhere", output });
}"""


def test_another_packs_output_of_the_same_names_is_left_alone(tab, newest):
    page = loaded(tab, newest)
    thrown: list[str] = []
    page.page.on("pageerror", lambda error: thrown.append(error.message))
    for kind in ("none of the shown", "KSampler", "AAI_EncodeSound"):
        page.page.evaluate(HEAR, [kind, {"known": [False]}])
    page.page.wait_for_timeout(300)
    assert thrown == [] and page.complaints == []


def test_an_unknown_sound_is_told_once_and_not_beside_the_nodes_own_warning(tab, renderer):
    page = loaded(tab, renderer)
    told = page.toasts("The picture may show what the sound is most like")

    def hear(known: bool, word: str) -> int:
        words = [{"word": word, "score": 0.3, "unknown": False}]
        page.page.evaluate(HEAR, ["AAI_EncodeSound", {"known": [known], "words": words}])
        page.page.wait_for_timeout(300)
        return told.count()

    assert hear(False, "dog") == 0
    # The warning is in sight, most of the view is not.
    page.page.evaluate(
        """() => {
            const { bottom } = document.querySelector(".aai-outside").getBoundingClientRect();
            app.canvas.ds.offset[1] += (window.innerHeight - bottom - 8) / app.canvas.ds.scale;
            app.canvas.setDirty(true, true);
        }"""
    )
    page.page.wait_for_timeout(400)
    page.shot("warning-at-the-edge")
    assert hear(False, "dog") == 0
    page.page.evaluate("app.canvas.ds.offset[1] += 9000; app.canvas.setDirty(true, true)")
    page.page.wait_for_timeout(400)
    assert [hear(False, "dog"), hear(False, "dog"), hear(False, "cat")] == [1, 1, 2]
    assert [hear(True, "cat"), hear(False, "cat")] == [2, 3]
    # Another workflow's node has the same id.
    page.load(page.template("sound_to_picture"))
    page.page.evaluate("app.canvas.ds.offset[1] += 9000; app.canvas.setDirty(true, true)")
    page.page.wait_for_timeout(400)
    assert [hear(False, "cat"), hear(False, "cat")] == [4, 4]
    assert page.complaints == []


def test_trimming_to_nothing_is_told_and_not_possible_by_mouse(tab, renderer):
    page = loaded(tab, renderer)
    drag(page, "end", 0.5)
    drag(page, "start", 0.9)
    start, length = part(page)
    assert length == pytest.approx(0.1) and start < 2.6
    drag(page, "end", 0.0)
    assert part(page) == (start, pytest.approx(0.1))
    page.set("AAI_LoadAudio", start=500.0)
    page.page.get_by_text("Nothing is left: the sound ends at 5.0 s. Start earlier.").wait_for()
    assert page.page.locator(".aai-play").is_disabled()
    page.shot("nothing-left")
    page.set("AAI_LoadAudio", start=1.0, length=0.0)
    page.page.get_by_text("1.0 s to 5.0 s, 4.0 s of 5.0 s").wait_for()
    assert page.complaints == []


def test_what_only_the_server_can_read_keeps_its_numbers(tab, server):
    samples = (synthesize("fire", 0.8, seed=2).mono().waveform.numpy() * 32767).astype(np.int16)
    with av.open(str(server.input / "old.aiff"), "w", format="aiff") as container:
        stream = container.add_stream("pcm_s16be", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    page = loaded(tab, "canvas")
    page.page.evaluate("app.refreshComboInNodes()")
    page.set("AAI_LoadAudio", audio="old.aiff", length=2.0)
    page.page.get_by_text("This browser cannot read the file, though ComfyUI may.").wait_for()
    page.shot("browser-cannot-read")
    only(page, "AAI_LoadSoundWorld", "AAI_LoadAudio", "AAI_EncodeSound")
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    assert page.page.locator(".aai-words li").count() == 5
    assert page.complaints == []


def test_what_only_the_browser_can_read_is_told_by_the_node(tab, server):
    broken = synthesize("fire", 0.8, seed=2).mono()
    samples = broken.waveform.numpy().copy()
    samples[0, 1000:1010] = np.nan
    with av.open(str(server.input / "nan.wav"), "w", format="wav") as container:
        stream = container.add_stream("pcm_f32le", rate=broken.rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.rate = broken.rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    page = loaded(tab, "canvas")
    page.page.evaluate("app.refreshComboInNodes()")
    page.set("AAI_LoadAudio", audio="nan.wav")
    page.page.locator(".aai-waveform:not(.aai-empty)").wait_for()
    only(page, "AAI_LoadSoundWorld", "AAI_LoadAudio", "AAI_EncodeSound")
    page.run()
    assert page.wait()["status"]["status_str"] == "error"
    notice = page.page.locator(".aai-told")
    notice.wait_for()
    assert "samples that are not numbers" in notice.inner_text() and "export it again" in notice.inner_text()
    page.show()
    page.shot("server-cannot-read")
    # Older front ends show it in a dialog as well.
    page.page.keyboard.press("Escape")
    page.page.locator(".p-dialog-mask").wait_for(state="detached")
    page.set("AAI_LoadAudio", audio="fire.wav")
    page.run()
    notice.wait_for(state="detached")
    assert page.wait()["status"]["status_str"] == "success"


def test_a_long_recording_is_trimmed_and_played_without_being_decoded(tab, renderer, server):
    with wave.open(str(server.input / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.zeros(1200 * 8000, dtype=np.int16).tobytes())
    page = loaded(tab, renderer)
    page.page.evaluate(
        """() => {
            const { decodeAudioData } = OfflineAudioContext.prototype;
            window.decoded = 0;
            OfflineAudioContext.prototype.decodeAudioData = function (...rest) {
                window.decoded += 1;
                return decodeAudioData.apply(this, rest);
            };
            return app.refreshComboInNodes();
        }"""
    )
    page.set("AAI_LoadAudio", audio="talk.wav")
    left_out = page.page.get_by_text("A long recording: its outline is left out.")
    left_out.wait_for()
    line = page.page.locator(".aai-waveform .aai-line")
    assert line.inner_text() == "0.0 s to 1200.0 s, 1200.0 s of 1200.0 s"
    drag(page, "end", 0.5)
    start, length = part(page)
    assert start == 0 and length == pytest.approx(600, abs=25)
    page.shot("long")
    page.page.locator(".aai-play").click()
    page.page.wait_for_function("parseFloat(document.querySelector('.aai-playhead').style.left) > 0")
    assert page.page.evaluate("window.decoded") == 0
    page.set("AAI_LoadAudio", audio="thunder.wav", length=0.0)
    page.page.get_by_text("0.0 s to 5.0 s, 5.0 s of 5.0 s").wait_for()
    assert not left_out.is_visible() and page.page.evaluate("window.decoded") == 1
    assert page.complaints == []
    (server.input / "talk.wav").unlink()


def test_a_file_that_is_gone_is_told(tab, server):
    shutil.copyfile(server.input / "fire.wav", server.input / "gone.wav")
    page = loaded(tab, "canvas")
    page.page.evaluate("app.refreshComboInNodes()")
    (server.input / "gone.wav").unlink()
    page.set("AAI_LoadAudio", audio="gone.wav")
    page.page.get_by_text("This file is not in the input folder").wait_for()


def only(page, *kinds: str) -> None:
    """Removes every other node."""
    page.page.evaluate(
        "k => app.graph._nodes.filter((n) => !k.includes(n.type)).forEach((n) => app.graph.remove(n))",
        list(kinds),
    )
