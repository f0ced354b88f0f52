"""A ComfyUI of our own, as far as it goes without one: workflows as prompts, the pack in place, starts."""

import socket
import urllib.request
from pathlib import Path

import pytest

from aai.demo import comfy_server
from aai.demo.comfy_server import COPIED, ComfyError, ComfyServer, Result, api_prompt, install_pack
from aai.errors import InputError

INFO = {
    "Load": {"input": {"required": {"file": [["a.wav", "b.wav"], {}]}}},
    "Draw": {
        "input": {
            "required": {
                "sound": ["AUDIO", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "text": ["STRING", {"forceInput": True}],
            },
            "optional": {"strength": ["FLOAT", {"default": 0.5}]},
        }
    },
}


def node(number: int, kind: str, *values, **more) -> dict:
    return {"id": number, "type": kind, "widgets_values": list(values), **more}


def test_a_workflow_becomes_a_prompt():
    inputs = [{"name": "sound", "link": 7}, {"name": "text", "link": None}]
    workflow = {
        "links": [[7, 1, 0, 2, 0, "AUDIO"]],
        "nodes": [
            node(1, "Load", "b.wav"),
            node(2, "Draw", 42, "randomize", inputs=inputs),
            node(3, "Note", "a note"),
            node(4, "Load", "a.wav", mode=4),
        ],
    }
    assert api_prompt(workflow, INFO) == {
        "1": {"class_type": "Load", "inputs": {"file": "b.wav"}},
        "2": {"class_type": "Draw", "inputs": {"seed": 42, "strength": 0.5, "sound": ["1", 0]}},
    }
    with pytest.raises(InputError, match="node Paint is unknown"):
        api_prompt({"links": [], "nodes": [node(1, "Paint")]}, INFO)


def test_a_bypassed_node_hands_on_what_it_is_given():
    """As in the front end: its first input of the output's type."""
    resume = [{"name": "file", "type": "TEXT", "link": None}, {"name": "sound", "type": "AUDIO", "link": 1}]
    workflow = {
        "links": [[1, 1, 0, 2, 1, "AUDIO"], [2, 2, 0, 3, 0, "AUDIO"], [3, 4, 0, 3, 1, "AUDIO"]],
        "nodes": [
            node(1, "Load", "a.wav"),
            node(2, "Load", "b.wav", mode=4, inputs=resume),
            node(3, "Draw", 1, "fixed", inputs=[{"name": "sound", "link": 2}, {"name": "other", "link": 3}]),
            node(4, "Load", "c.wav", mode=2),
        ],
    }
    made = api_prompt(workflow, INFO)
    assert made["3"]["inputs"]["sound"] == ["1", 0] and "other" not in made["3"]["inputs"]
    assert set(made) == {"1", "3"}
    awake = api_prompt(workflow, INFO, awake=True)
    assert awake["3"]["inputs"]["sound"] == ["2", 0] and awake["2"]["inputs"]["sound"] == ["1", 0]
    assert set(awake) == {"1", "2", "3"} and workflow["nodes"][1]["mode"] == 4


def test_a_comfyui_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert comfy_server.find_comfy() is None
    (tmp_path / "main.py").touch()
    assert comfy_server.find_comfy() == tmp_path
    (tmp_path / "comfyui_version.py").write_text('# ours\n__version__ = "0.33.0"\n', encoding="utf-8")
    assert comfy_server.version(tmp_path) == "0.33.0"


def test_the_pack_is_linked_or_copied_anew(tmp_path, monkeypatch):
    pack = tmp_path / "pack"
    for name in ("nodes/a.py", "tests/b.py", "out/c.png"):
        (pack / name).parent.mkdir(parents=True)
        (pack / name).touch()
    install_pack(pack, tmp_path / "link")
    assert (tmp_path / "link" / "nodes" / "a.py").is_file()

    def refused(*_, **__):
        raise OSError("a privilege that is not held")

    monkeypatch.setattr(Path, "symlink_to", refused)
    for new in ("nodes/d.py", "nodes/e.py"):
        (pack / new).touch()
        install_pack(pack, tmp_path / "copy")
        names = {p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*.*")}
        assert new in names and not names & {"tests/b.py", "out/c.png"}
    (tmp_path / "own").mkdir()
    install_pack(pack, tmp_path / "own")
    assert not (tmp_path / "own" / COPIED).exists()


def test_a_result_tells_saved_pictures_from_shown_ones():
    images = [
        {"filename": n, "subfolder": "", "type": t}
        for n, t in (("b", "output"), ("a", "output"), ("c", "temp"))
    ]
    result = Result("x", {"1": {"images": images}, "2": {"text": ["rain"]}}, 1.0)
    assert [image["filename"] for image in result.images()] == ["a", "b"]
    assert [image["filename"] for image in result.images("temp")] == ["c"] and result.texts() == ["rain"]


def test_a_node_that_failed_gives_its_own_sentence():
    entry = {
        "status": {
            "messages": [["execution_error", {"exception_message": "Too few.\n", "node_type": "Draw"}]]
        }
    }
    with pytest.raises(ComfyError, match="^Too few.$") as caught:
        comfy_server._result("x", entry, 1.0)
    assert caught.value.node == "Draw"


@pytest.fixture
def comfy(tmp_path):
    """comfy(code) -> a server of a ComfyUI whose main.py is that code."""

    def make(code: str) -> ComfyServer:
        (tmp_path / "comfy").mkdir()
        (tmp_path / "comfy" / "main.py").write_text(code, encoding="utf-8")
        (tmp_path / "pack").mkdir()
        return ComfyServer(tmp_path / "comfy", tmp_path / "base", tmp_path / "pack")

    return make


def test_a_server_that_does_not_start_says_its_last_words(comfy):
    with pytest.raises(InputError, match="did not start: no torch"), comfy("raise SystemExit('no torch')"):
        pass


SERVER = """
import http.server, json, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "arguments": sys.argv}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
port = int(sys.argv[sys.argv.index("--port") + 1])
print("aai-sound-tokens: 0.2 seconds", flush=True)
print("aai-sound-tokens: Warning, old", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def test_a_server_is_started_on_files_of_its_own_and_stopped(comfy, tmp_path):
    with comfy(SERVER) as server:
        answer = server.object_info()
        assert answer["path"] == "/object_info" and "--cpu" in answer["arguments"]
        assert str(server.base) in answer["arguments"] and (server.base / "custom_nodes").is_dir()
        (tmp_path / "a.wav").write_bytes(b"RIFF")
        assert server.upload(tmp_path / "a.wav") == "a.wav" and (server.input / "a.wav").is_file()
        assert server.import_seconds() == 0.2
        (complaint,) = server.complaints()
        assert complaint.endswith("Warning, old")
    assert server.process is None
    with pytest.raises(OSError):
        urllib.request.urlopen(server.url, timeout=5)


def test_a_free_port_can_be_listened_on():
    with socket.socket() as s:
        s.bind(("127.0.0.1", comfy_server.free_port()))
