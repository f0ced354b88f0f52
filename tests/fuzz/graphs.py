"""Malformed graphs, posted to a running ComfyUI: each must be refused, run, or fail in one sentence, and the
queue must go on."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import time
import urllib.error
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from aai.demo.comfy_server import ComfyError, ComfyServer, find_comfy

from . import seeds
from .example import Example
from .strategies import json_values, numbers, stems, texts
from .worker import (
    BYTES,
    EXECUTED,
    HANG,
    MEMORY,
    RESULT,
    SECONDS,
    SENTENCE,
    TRACEBACK,
    Outcome,
    ends_in_time,
    processor_seconds,
)

ROOT = Path(__file__).parents[2]
WORK = ("steps", "batch_size", "vectors", "images", "k", "count", "invert_steps", "epochs", "width", "height")
"""Inputs whose numbers stand for work: a large one is no fault."""
BEGUN = 600.0
"""Seconds that the server may take to start, and the first graph, which loads everything."""


def templates(server: ComfyServer) -> list[dict]:
    """The example workflows as prompts with hardly any work."""
    found = []
    for path in sorted((ROOT / "example_workflows").glob("*.json")):
        prompt = server.prompt(json.loads(path.read_text(encoding="utf-8")), awake=True)
        if any(node["class_type"] == "UNETLoader" for node in prompt.values()):
            # It needs a model that is downloaded.
            continue
        for node in prompt.values():
            if "steps" in node["inputs"]:
                node["inputs"]["steps"] = 1
        found.append(prompt)
    return found


@st.composite
def graphs(draw, whole: list[dict], files: list[str]) -> dict:
    """One of the templates with inputs, links or nodes that are wrong."""
    graph = copy.deepcopy(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 3))):
        ours = [key for key in graph if graph[key]["class_type"].startswith("AAI_")]
        name = draw(st.sampled_from(sorted(ours or graph)))
        node = graph[name]
        how = draw(st.integers(0, 11))
        if how == 0 and len(graph) > 1:
            del graph[name]
        elif how == 1:
            node["class_type"] = draw(st.one_of(st.sampled_from(["AAI_None", "KSampler", ""]), texts))
        elif how == 2:
            graph[draw(st.one_of(stems, st.sampled_from(["-1", "1:2", ""])))] = copy.deepcopy(node)
        elif node["inputs"]:
            key = draw(st.sampled_from(sorted(node["inputs"])))
            links = st.tuples(st.sampled_from(sorted(graph)), st.integers(-1, 5)).map(list)
            if how == 3:
                del node["inputs"][key]
            elif how == 4:
                node["inputs"][draw(texts)] = draw(json_values)
            elif how <= 6:
                node["inputs"][key] = draw(links)
            elif key in ("audio", "image", "file", "model", "clip_model", "folder", "data"):
                node["inputs"][key] = draw(st.one_of(st.sampled_from(files), texts))
            elif key in WORK:
                node["inputs"][key] = draw(st.sampled_from([0, -1, 1, 2, 8, 1.5, "x", None, True]))
            else:
                node["inputs"][key] = draw(st.one_of(texts, numbers, json_values))
    return graph


class Posted:
    """A server that is restarted where it hangs or ends."""

    def __init__(self, comfy: Path, base: Path):
        self.server = ComfyServer(comfy, base, ROOT)
        self.server.start(BEGUN)
        self.log, self.first = 0, None

    def post(self, graph: dict, seconds: float = SECONDS) -> Outcome:
        begin, before = time.monotonic(), self._peak()
        outcome = self._outcome(graph, seconds)
        peak = max(self._peak() - before, 0)
        kind = MEMORY if peak > BYTES else outcome.kind
        return Outcome(kind, outcome.text, outcome.where, time.monotonic() - begin, peak)

    def _outcome(self, graph: dict, seconds: float) -> Outcome:
        pid = self.server.process.pid
        try:
            prompt, spent = self.server.queue(graph), processor_seconds(pid)
            if ends_in_time(lambda timeout: self._has_ended(prompt, timeout), pid, spent, seconds):
                return Outcome(RESULT)
            self._restart()
            return Outcome(HANG, json.dumps(graph), "the queue")
        except ComfyError as error:
            if error.message.startswith("ComfyUI ended"):
                self._restart()
                return Outcome(TRACEBACK, error.message, "the server ended")
            return self._judged(error)
        except urllib.error.HTTPError as error:
            # Core's own validation, not ours, unless its log names us.
            text = error.read().decode(errors="replace")
            return Outcome(TRACEBACK if self._names_us() else SENTENCE, text[:300], f"HTTP {error.code}")
        except (urllib.error.URLError, OSError) as error:
            self._restart()
            return Outcome(HANG, str(error), "the server")

    def _has_ended(self, prompt: str, timeout: float) -> bool:
        try:
            self.server.wait(prompt, timeout)
        except ComfyError as error:
            if error.message.startswith("ComfyUI took more"):
                return False
            raise
        return True

    def _judged(self, error: ComfyError) -> Outcome:
        kind = error.details.get("exception_type", "")
        if not kind or kind.endswith("InputError"):
            return Outcome(SENTENCE, error.message)
        frames = [line.strip() for line in error.details.get("traceback", []) if "aai-sound-tokens" in line]
        frames = frames or [line for line in error.details.get("traceback", []) if str(ROOT) in line]
        if not frames or not str(error.node).startswith("AAI_"):
            return Outcome(SENTENCE, error.message)
        place = (
            frames[-1]
            .replace('"', "")
            .split("aai-sound-tokens/")[-1]
            .split(", in ")[0]
            .replace(", line ", ":")
        )
        return Outcome(TRACEBACK, "".join(error.details["traceback"]), f"{kind} {place}")

    def _names_us(self) -> bool:
        log = self.server.log
        since, self.log = log[self.log :], len(log)
        return "Traceback" in since and "aai-sound-tokens/nodes" in since

    def _peak(self) -> int:
        with contextlib.suppress(OSError, AttributeError, IndexError):
            status = Path(f"/proc/{self.server.process.pid}/status").read_text(encoding="utf-8")
            return int(status.split("VmHWM:")[1].split()[0]) * 1024
        return 0

    def _restart(self) -> None:
        self.server.stop()
        self.server.start(BEGUN)
        # It loads everything, which no example is to pay for.
        self.server.run(self.first, BEGUN)


def run_graphs(count: int, start: int, base: Path, report) -> None:
    """Posts so many graphs; none where there is no ComfyUI."""
    comfy = find_comfy()
    if comfy is None:
        print("graph: no ComfyUI here (COMFYUI_PATH is not set), so none were posted.", flush=True)
        return
    base.mkdir(parents=True)
    marker = Path(os.environ["AAI_FUZZ_MARKER"])
    posted = Posted(comfy, base)
    try:
        (base / "models" / "embeddings").mkdir(parents=True, exist_ok=True)
        files = {
            "a.wav": seeds.sounds()["wav"][:900], "a.png": seeds.pictures()["png"], "cut.png": b"\x89PNG",
            "pipe.wav": b"", "film.mp4": seeds.video(), "caf\udce9.wav": seeds.sounds()["wav"],
        }  # fmt: skip
        Example("", "", files=files).write(posted.server.input)
        whole = templates(posted.server)
        posted.first = whole[0]
        first = posted.post(whole[0], BEGUN)
        if first.kind != RESULT:
            raise RuntimeError(f"a whole template gives {first.kind}: {first.text}")

        @seed(start)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(graphs(whole, [*files, "none.wav", "../a.wav", "/etc/passwd", "/dev/zero"]))
        def each(graph: dict) -> None:
            outcome = posted.post(graph)
            if marker.exists():
                marker.unlink()
                outcome = Outcome(EXECUTED)
            report.add(Example("graph", "post", {"graph": graph}), outcome)

        each()
        # The queue must still answer.
        last = posted.post(whole[0], BEGUN)
        report.add(Example("graph", "post", {"graph": whole[0]}), last)
    finally:
        posted.server.stop()
