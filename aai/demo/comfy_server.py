"""Runs a ComfyUI as a server of our own: start it, queue a graph, fetch what it made, read its log.

Plain HTTP and a subprocess; ComfyUI is never imported here. The ComfyUI that is used stays as it was: inputs,
outputs, models, its database and the node pack lie under a base directory of the caller's.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .subgraphs import opened

PACK_NAME = "aai-sound-tokens"
COPIED = ".copied"
"""Says of a pack's folder that it is a copy of ours, which the next one may replace."""


MUTED, BYPASSED = 2, 4
"""A node's modes in a saved workflow; 0 runs."""


def find_comfy() -> Path | None:
    """The ComfyUI that `COMFYUI_PATH` names, else comfy-cli's default workspace; None where there is none."""
    named = os.environ.get("COMFYUI_PATH")
    path = Path(named).expanduser() if named else Path.home() / "comfy" / "ComfyUI"
    return path if (path / "main.py").is_file() else None


def version(comfy: Path) -> str:
    """The version that a ComfyUI folder states, "0.33.0"."""
    for line in (comfy / "comfyui_version.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split("=")[1].strip().strip("\"'")
    return "unknown"


def api_prompt(workflow: dict, object_info: dict, awake: bool = False) -> dict:
    """A saved workflow (nodes, links, widgets_values) as the prompt that the server's /prompt takes.

    `object_info` is the server's /object_info. Notes and muted nodes are left out; bypassed ones hand on what
    they are given, as in the front end, or with `awake` run; subgraphs are opened. Raises InputError for a
    node that the server does not know.
    """
    workflow = opened(workflow)
    if awake:
        nodes = [{**node, "mode": 0 if node.get("mode") == BYPASSED else node.get("mode", 0)}
                 for node in workflow["nodes"]]  # fmt: skip
        workflow = {**workflow, "nodes": nodes}
    sources = _sources(workflow)
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote") or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        info = object_info.get(node["type"])
        if info is None:
            raise InputError(
                f"The workflow's node {node['type']} is unknown to this ComfyUI: install its node pack."
            )
        values = iter(node.get("widgets_values") or [])
        inputs = {}
        for name, kind, options in _inputs(info):
            if _is_widget(kind, options):
                inputs[name] = next(values, options.get("default"))
                if options.get("control_after_generate") or name in ("seed", "noise_seed"):
                    next(values, None)
        for slot in node.get("inputs") or []:
            if slot.get("link") in sources:
                inputs[slot["name"]] = list(sources[slot["link"]])
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _sources(workflow: dict) -> dict[int, tuple[str, int]]:
    """Where each link comes from: (node, output). A bypassed node hands its first input of an output's type
    on; what has none, or comes from a muted node, is no link."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}

    def source(number: int | None) -> tuple[str, int] | None:
        if number is None:
            return None
        _, origin, output, _, _, kind = links[number]
        node = nodes[origin]
        if node.get("mode", 0) == MUTED:
            return None
        if node.get("mode", 0) == BYPASSED:
            same = [slot for slot in node.get("inputs") or [] if slot["type"] == kind]
            return source(same[0].get("link")) if same else None
        return str(origin), output

    found = {number: source(number) for number in links}
    return {number: place for number, place in found.items() if place is not None}


def _inputs(info: dict):
    for group in ("required", "optional"):
        for name, spec in (info["input"].get(group) or {}).items():
            yield name, spec[0], spec[1] if len(spec) > 1 else {}


def _is_widget(kind, options: dict) -> bool:
    return not options.get("forceInput") and (
        isinstance(kind, list)
        # The last is a combo whose choices bring inputs of their own, which the server fills in.
        or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
    )


class ComfyError(RuntimeError):
    """A graph that ComfyUI refused or that failed: `message` is the node's own sentence."""

    def __init__(self, message: str, node: str | None = None, details: dict | None = None):
        super().__init__(message)
        self.message, self.node, self.details = message, node, details or {}


@dataclass(frozen=True)
class Result:
    """A graph that ran: outputs {node id: ui outputs}, and its seconds."""

    prompt_id: str
    outputs: dict
    seconds: float
    messages: list = field(default_factory=list)

    def images(self, kind: str = "output") -> list[dict]:
        """The pictures that were saved, or shown ("temp"), by name: {"filename", "subfolder", "type"}."""
        every = [image for output in self.outputs.values() for image in output.get("images", [])]
        return sorted((i for i in every if i["type"] == kind), key=lambda image: image["filename"])

    def texts(self) -> list[str]:
        """Every text that a node showed."""
        return [text for output in self.outputs.values() for text in output.get("text", [])]


class ComfyServer:
    """A ComfyUI server with this pack among its custom nodes; a context manager.

    comfy: the ComfyUI folder. base: where this run's files lie. pack: the node pack's root, linked into the
    base's custom_nodes. environment: variables that the server gets besides this process's, or with other
    values.
    """

    def __init__(
        self,
        comfy: Path,
        base: Path,
        pack: Path,
        environment: Mapping[str, str] | None = None,
    ):
        self.comfy, self.base, self.pack = Path(comfy), Path(base).resolve(), Path(pack).resolve()
        self.port = free_port()
        self.environment = dict(environment or {})
        self.log_path = self.base / "server.log"
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace", encoding="utf-8") if self.log_path.exists() else ""

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self, timeout: float = 180.0) -> None:
        """Starts the server and waits until it answers; raises InputError with its last words otherwise."""
        for name in ("custom_nodes", "input", "output", "models", "user", "temp"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        install_pack(self.pack, self.base / "custom_nodes" / PACK_NAME)
        database = f"sqlite:///{self.base / 'user' / 'comfyui.db'}"
        command = [sys.executable, str(self.comfy.resolve() / "main.py"), "--base-directory", str(self.base)]
        command += ["--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"]
        command += ["--database-url", database, "--cpu"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= self.environment
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.base,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        self.stop()
        last = " | ".join(self.log.strip().splitlines()[-3:])
        raise InputError(
            f"ComfyUI at {self.comfy} did not start: {last or 'no output'} (whole log: {self.log_path})."
        )

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def get(self, path: str):
        return json.loads(self._read(path))

    def post(self, path: str, body: dict):
        request = urllib.request.Request(
            self.url + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def _read(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def object_info(self) -> dict:
        """Every node's inputs and outputs, as the web front end gets them."""
        return self.get("/object_info")

    def upload(self, file: Path, name: str | None = None) -> str:
        """Copies a file into the input folder; returns the name that a loader node takes."""
        target = self.input / (name or Path(file).name)
        shutil.copyfile(file, target)
        return target.name

    def prompt(self, workflow: dict, awake: bool = False) -> dict:
        """A saved workflow as an API prompt for this server; with `awake`, its bypassed nodes run."""
        return api_prompt(copy.deepcopy(workflow), self.object_info(), awake)

    def queue(self, prompt: dict) -> str:
        """Queues an API prompt; returns its id. Raises ComfyError where validation refuses an output."""
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": "aai"})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise _refusal(json.loads(error.read())) from None
        if answer.get("node_errors"):
            # ComfyUI would run the outputs that it found no fault with.
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            self.interrupt()
            raise _refusal(answer)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600.0) -> Result:
        """Waits for a queued prompt. Raises ComfyError where a node fails or the run is interrupted."""
        begin = time.monotonic()
        while time.monotonic() - begin < timeout:
            if self.process is not None and self.process.poll() is not None:
                raise ComfyError(f"ComfyUI ended with code {self.process.returncode} (log: {self.log_path})")
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status"):
                return _result(prompt_id, entry, time.monotonic() - begin)
            time.sleep(0.1)
        raise ComfyError(f"ComfyUI took more than {timeout:.0f} s (log: {self.log_path})")

    def run(self, prompt: dict, timeout: float = 600.0) -> Result:
        """Queues an API prompt and waits for it."""
        return self.wait(self.queue(prompt), timeout)

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def pictures(self, result: Result, kind: str = "output") -> list[io.BytesIO]:
        """The files of `result.images(kind)`."""
        return [io.BytesIO(self._read("/view?" + urllib.parse.urlencode(i))) for i in result.images(kind)]

    def complaints(self) -> list[str]:
        """The log's lines that name the pack and warn, or that tell of a failed import."""
        words = ("warn", "error", "exception", "cannot import", "import failed", "traceback")
        lines = self.log.splitlines()
        return [s for s in lines if PACK_NAME in s and any(w in s.lower() for w in words)]

    def import_seconds(self) -> float | None:
        """The pack's import time as ComfyUI printed it."""
        for line in self.log.splitlines():
            found = re.search(r"([\d.]+) seconds", line) if PACK_NAME in line else None
            if found:
                return float(found[1])
        return None


def install_pack(pack: Path, target: Path) -> None:
    """Puts the pack at `target`: a link, or a copy of what a release holds where links are not allowed."""
    if target.is_symlink():
        return
    if (target / COPIED).is_file():
        # Of the pack as it was then.
        shutil.rmtree(target)
    if target.exists():
        return
    try:
        target.symlink_to(pack, target_is_directory=True)
    except OSError:
        unwanted = shutil.ignore_patterns(".git", ".venv*", "out", "__pycache__", "tests", "*.egg-info")
        shutil.copytree(pack, target, ignore=unwanted)
        (target / COPIED).touch()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _refusal(answer: dict) -> ComfyError:
    for node, errors in (answer.get("node_errors") or {}).items():
        first = errors["errors"][0]
        sentence = first.get("details") or first["message"]
        return ComfyError(sentence, errors.get("class_type", node), answer)
    error = answer.get("error", {})
    return ComfyError(
        error.get("message", str(answer)) if isinstance(error, dict) else str(error), details=answer
    )


def _result(prompt_id: str, entry: dict, seconds: float) -> Result:
    messages = entry["status"].get("messages", [])
    for kind, data in messages:
        if kind == "execution_error":
            raise ComfyError(data["exception_message"].strip(), data["node_type"], data)
        if kind == "execution_interrupted":
            raise ComfyError("interrupted", data["node_type"], data)
    return Result(prompt_id, entry.get("outputs", {}), seconds, messages)
