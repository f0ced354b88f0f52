"""Renders SoundWorld: a scene, and an event in it at an intensity."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from . import events, scenes
from .canvas import UNITS, Canvas
from .world import EVENTS, SCENES


def _event_layer(scene: str, event: str | None, intensity: float, seed: int, size: int) -> np.ndarray | None:
    if event is None:
        return None
    canvas = Canvas()
    rng = np.random.default_rng([seed, SCENES.index(scene), EVENTS.index(event)])
    events.DRAW[event](canvas, intensity, rng)
    return canvas.pixels(size)


def _check_scene(scene: str) -> None:
    if scene not in SCENES:
        raise InputError(f"SoundWorld has no scene '{scene}': choose one of {', '.join(SCENES)}.")


def _check(scene: str, event: str | None, intensity: float) -> None:
    _check_scene(scene)
    if event is not None and event not in EVENTS:
        raise InputError(f"SoundWorld has no event '{event}': choose one of {', '.join(EVENTS)}, or none.")
    if not 0 < intensity <= 1:
        raise InputError(f"The intensity {intensity} is outside (0, 1]: choose one between.")


def render(scene: str, event: str | None, intensity: float, seed: int, size: int = UNITS) -> np.ndarray:
    """The picture as uint8 [size, size, 3]; the same arguments give the same picture.

    Raises InputError for an unknown scene or event, or an intensity outside (0, 1].
    """
    _check(scene, event, intensity)
    return render_events(scene, {} if event is None else {event: intensity}, seed, size)


def render_events(scene: str, intensities: Mapping[str, float], seed: int, size: int = UNITS) -> np.ndarray:
    """A scene with several events, each at its intensity and before those that are named earlier, as uint8
    [size, size, 3]. Raises InputError as `render` does."""
    _check_scene(scene)
    for event, intensity in intensities.items():
        _check(scene, event, intensity)
    canvas = Canvas()
    scenes.DRAW[scene](canvas, np.random.default_rng([seed, SCENES.index(scene)]))
    picture = canvas.pixels(size)[..., :3]
    for event, intensity in intensities.items():
        if event in events.LIGHT:
            weak, strong = (np.array(light, dtype=np.float32) for light in events.LIGHT[event])
            picture = picture * (weak + (strong - weak) * np.float32(intensity))
    for event, intensity in intensities.items():
        layer = _event_layer(scene, event, intensity, seed, size)
        picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
    return (picture * 255 + 0.5).clip(0, 255).astype(np.uint8)


def event_mask(scene: str, event: str | None, intensity: float, seed: int, size: int = UNITS) -> np.ndarray:
    """Where the event itself is drawn: bool [size, size]."""
    _check(scene, event, intensity)
    layer = _event_layer(scene, event, intensity, seed, size)
    return np.zeros((size, size), dtype=bool) if layer is None else layer[..., 3] > 0.5


@dataclass(frozen=True)
class Scenes:
    """Each picture's scene, event (None: calm), intensity and seed."""

    scene: list[str]
    event: list[str | None]
    intensity: list[float]
    seed: list[int]


def random_scenes(count: int, seed: int, calm: float = 0.08) -> Scenes:
    """`count` random scenes, a share `calm` of them without an event."""
    rng = np.random.default_rng(seed)
    event = [None if rng.random() < calm else str(rng.choice(EVENTS)) for _ in range(count)]
    return Scenes(
        scene=[str(rng.choice(SCENES)) for _ in range(count)],
        event=event,
        intensity=[float(rng.uniform(0.05, 1.0)) for _ in range(count)],
        seed=[int(s) for s in rng.integers(0, 2**31, count)],
    )


def draw_all(scenes: Scenes, workers: int = 2) -> Tensor:
    """The pictures as uint8 [N, 3, H, W], drawn in `workers` processes of their own, or in this one."""
    return draw_rows(render, list(zip(scenes.scene, scenes.event, scenes.intensity, scenes.seed)), workers)


def draw_rows(draw: Callable[..., np.ndarray], rows: Sequence[tuple], workers: int = 2) -> Tensor:
    """What `draw`, a function of a module, draws of each row of arguments, as `draw_all`."""
    from multiprocessing import get_all_start_methods, get_context

    if workers == 1:
        # A server of many threads must not be forked.
        pictures = np.stack([draw(*row) for row in rows])
    else:
        # macOS has fork, but not for a process in which Accelerate has begun threads.
        start = "fork" if "fork" in get_all_start_methods() and sys.platform != "darwin" else "spawn"
        with get_context(start).Pool(workers) as pool:
            pictures = np.stack(pool.starmap(draw, rows, chunksize=64))
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
