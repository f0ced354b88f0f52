"""What a film's samplings have drawn, kept on disk until the film is joined: core throws a list away when it
is interrupted, and with this the next run of the same graph samples only what is missing."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch
from torch import Tensor

from ...aai.errors import InputError, first_line, logger
from ...aai.files import Unreadable
from ...aai.inject.edit import Edit
from ...aai.inject.frame_store import FrameStore, discard, is_ours

log = logger(__name__)

EDIT, JOIN = "AAI_PromptToPromptEdit", "AAI_JoinFrames"
FORGOTTEN = 7 * 24 * 3600
"""Seconds after which what was kept for a film that was never joined is removed."""
DEEPEST = 8
"""How far what a sampling depends on is looked into: a function may hold what holds it."""
SAMPLED = 4096
"""How many numbers of each tensor that patches a model tell it from others: a LoRA has a hundred million, and
is asked for every chunk."""


@dataclass(frozen=True)
class KeptFilm:
    """The place of a film's latents: a folder of its own, and what they depend on of the graph, as JSON."""

    folder: Path
    graph: str

    def chunk(
        self, edit: Edit, guider, sampler, extra_args: Mapping, sigmas: Tensor, noise: Tensor,
        latent: Tensor | None = None, mask=None, *rest,
    ) -> KeptChunk | None:  # fmt: skip
        """The place of one sampling's latents; None where they cannot be kept."""
        if len(noise) != edit.rows:
            return None
        depends_on = {
            "conds": guider.conds,
            # The graph may have several samplings of this edit, and models of their own behind it.
            "guider": [type(guider).__name__, {k: v for k, v in vars(guider).items() if _is_plain(v)}],
            "sampler": [type(sampler).__name__, vars(sampler)],
            "seed": extra_args.get("seed"),
            "model": _thinned(guider.model_patcher),
            "patches": {k: v for k, v in extra_args["model_options"].items() if k != "transformer_options"},
            "attention": extra_args["model_options"]["transformer_options"].get("patches", {}),
            "sigmas": sigmas,
            "latent": latent,
            "mask": mask,
            "noise": noise[:1],
        }
        given = {"graph": self.graph, **{name: _digest(value) for name, value in depends_on.items()}}
        try:
            store = FrameStore(self.folder, given)
        except (InputError, OSError) as error:
            log.warning("The film is drawn, but not kept while it is: %s", first_line(error))
            return None
        shots = [(max(scales.values()), prompt.tokens[0]) for prompt, scales in zip(edit.edited, edit.scales)]
        paths = [store.path(0, kind="safetensors")]
        paths += [store.path(0, scale, token, "safetensors") for scale, token in shots]
        return KeptChunk(store, tuple(paths))


@dataclass(frozen=True)
class KeptChunk:
    """Where the latents of a chunk lie: its source's, and its frames'."""

    store: FrameStore
    paths: tuple[Path, ...]

    def load(self) -> Tensor | None:
        """The chunk's latents [B, ...]; None where one is missing or cannot be read."""
        if not all(path.exists() for path in self.paths):
            return None
        try:
            latents = torch.stack([self.store.latents(path) for path in self.paths])
        except (Unreadable, OSError, KeyError):
            return None
        log.info("%d frames are there from the run before.", len(latents) - 1)
        return latents

    def save(self, latents: Tensor) -> None:
        """Keeps the chunk's latents [B, ...]; says so where the disk does not take them."""
        try:
            for path, row in zip(self.paths, latents):
                self.store.save_latents(row, path)
        except (InputError, OSError) as error:
            log.warning("The film goes on, but this part of it is not kept: %s", first_line(error))


def film_of(hidden) -> KeptFilm | None:
    """The place of the film of an edit, by its node's hidden inputs, its graph and its number there; None
    where they are not known. What was kept for films that were never joined is removed after a while."""
    prompt, node = _graph(hidden)
    if not prompt:
        return None
    _forget()
    parts = _behind(prompt, node)
    graph = {
        name: [prompt[name].get("class_type"), prompt[name].get("inputs", {})]
        for name in sorted(_before(prompt, parts))
    }
    graph["files"] = sorted(_files(graph.values()))
    return KeptFilm(_folder(prompt, node), json.dumps(graph, sort_keys=True, default=str))


def joined(hidden) -> None:
    """Removes what was kept for the films that a node has joined, by its hidden inputs."""
    prompt, node = _graph(hidden)
    for name in _before(prompt, {node} if prompt else set()):
        if prompt[name].get("class_type") == EDIT and is_ours(folder := _folder(prompt, name)):
            discard(folder)


def _graph(hidden) -> tuple[Mapping, str]:
    """The graph that a node stands in, in core's API form, and its number there; no graph where it is not
    known."""
    prompt, node = getattr(hidden, "prompt", None) or {}, str(getattr(hidden, "unique_id", None))
    return (prompt if node in prompt else {}), node


def _root() -> Path:
    return Path(folder_paths.get_user_directory()) / "aai_films"


def _folder(prompt: Mapping, edit: str) -> Path:
    """The folder of the film of an edit: that of all that comes before it."""
    graph = {name: prompt[name].get("inputs", {}) for name in sorted(_before(prompt, {edit}))}
    text = json.dumps([edit, graph], sort_keys=True, default=str)
    return _root() / hashlib.sha256(text.encode(errors="replace")).hexdigest()[:24]


def _links(prompt: Mapping, name: str) -> set[str]:
    """The nodes that a node takes something from."""
    values = prompt[name].get("inputs", {}).values()
    return {str(v[0]) for v in values if isinstance(v, list) and len(v) == 2 and str(v[0]) in prompt}


def _before(prompt: Mapping, names: set[str]) -> set[str]:
    """Nodes, and all that they depend on."""
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        left |= _links(prompt, name) - found
    return found


def _behind(prompt: Mapping, name: str) -> set[str]:
    """A node, and all that depends on it until the film is joined."""
    found = {name}
    while True:
        more = {
            other
            for other in prompt
            if other not in found
            and any(prompt[link].get("class_type") != JOIN for link in _links(prompt, other) & found)
        }
        if not more:
            return {name for name in found if prompt[name].get("class_type") != JOIN}
        found |= more


def _files(nodes: Iterable) -> Iterable[str]:
    """The files that nodes name in their widgets, of whatever kind, with the time when they were changed."""
    for _, inputs in nodes:
        for value in inputs.values():
            if not isinstance(value, str) or not os.path.splitext(value)[1] or len(value) > 500:
                continue
            for path in _places(value):
                try:
                    yield f"{path} {os.stat(path).st_mtime_ns}"
                except (OSError, ValueError):
                    continue


def _places(name: str) -> Iterable[str]:
    try:
        if folder_paths.exists_annotated_filepath(name):
            yield folder_paths.get_annotated_filepath(name)
    except (OSError, ValueError):
        pass
    for kind, (folders, endings) in folder_paths.folder_names_and_paths.items():
        if not endings or os.path.splitext(name)[1] in endings:
            yield from (os.path.join(folder, name) for folder in folders if kind != "custom_nodes")


def _digest(value: object) -> str:
    """What tells a conditioning, a tensor or numbers from others; an object is known by its kind alone, and
    what it was made with stands in the graph."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()[:32]


def _thinned(patcher) -> list:
    """What a model is patched with, by SAMPLED numbers of each tensor."""

    def thin(value: object) -> object:
        if isinstance(value, Tensor):
            return [str(value.shape), value.detach().flatten()[:: max(value.numel() // SAMPLED, 1)]]
        if isinstance(value, Mapping):
            return {key: thin(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [thin(part) for part in value]
        weights = getattr(value, "weights", None)
        return value if weights is None else [type(value).__name__, thin(weights)]

    return [thin(patcher.patches), sorted(patcher.object_patches)]


def _feed(digest, value: object, depth: int = 0) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    elif _is_plain(value):
        digest.update(repr(value).encode(errors="replace"))
    elif depth > DEEPEST:
        digest.update(type(value).__name__.encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            # Core numbers its conditionings anew in every run.
            if key != "uuid":
                digest.update(str(key).encode(errors="replace"))
                _feed(digest, value[key], depth + 1)
    elif isinstance(value, (list, tuple)):
        digest.update(str(len(value)).encode())
        for part in value:
            _feed(digest, part, depth + 1)
    elif inspect.isfunction(value):
        # What a node's function closes over are the widgets that it was made with.
        digest.update(value.__qualname__.encode())
        _feed(digest, inspect.getclosurevars(value).nonlocals, depth + 1)
    else:
        digest.update(type(value).__name__.encode())
        _feed(digest, [getattr(value, "cond", None), getattr(value, "weights", None)], depth + 1)


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))


def _forget() -> None:
    root = _root()
    for folder in root.iterdir() if root.is_dir() else ():
        if is_ours(folder) and time.time() - folder.stat().st_mtime > FORGOTTEN:
            discard(folder)
