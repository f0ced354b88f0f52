"""A training that can be stopped at any time: all that a step changes, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import files
from ..errors import InputError

if TYPE_CHECKING:
    from .settings import AlignSettings

FORMAT = "aai-align-training-2"
FIGURES = ("loss", "a_t", "a_v", "l_t")
ROUNDING = 1e-3
"""How far a label's vector, made anew on another machine, may lie from itself, as a share of its length."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept, every so many steps; `about` names what it starts from and learns (the
    encoder, the data), and `f_t` [L, D] are its labels' vectors: a training goes on only with the same, the
    vectors but for how another machine rounds them."""

    path: Path
    every: int = 200
    about: str = ""
    f_t: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


@dataclass
class Training:
    """What a step of `align` changes: the tuned weights, their twin's, Adam's moments, the temperature, the
    random numbers and, where the batches have one, their place in the data; the curve, and the best so far
    (measured, if it was, step, tau, weights)."""

    parameters: list[Tensor]
    followers: list[Tensor]
    optimizer: torch.optim.Optimizer
    tau: Tensor
    generator: torch.Generator
    batches: object
    curve: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float | None, int, float, list[Tensor]] | None = None

    def save(self, checkpoint: Checkpoint, settings: AlignSettings) -> None:
        """Writes the state in one move. Raises InputError where the disk does not take it."""
        rows = {
            "parameter": self.parameters,
            "follower": self.followers,
            "best": self.best[3] if self.best else [],
        }
        tensors = {f"{name}.{i}": value for name, values in rows.items() for i, value in enumerate(values)}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in moments.items()}
        tensors |= {"tau": self.tau, "generator": self.generator.get_state(), "f_t": checkpoint.f_t}
        tensors["curve"] = torch.tensor([[f[k] for k in FIGURES] for f in self.curve], dtype=torch.float64)
        if hasattr(self.batches, "state"):
            tensors |= {f"batches.{name}": value for name, value in self.batches.state().items()}
        facts = {
            "settings": asdict(settings),
            "about": checkpoint.about,
            "best": list(self.best[:3]) if self.best else None,
        }
        # Copies: safetensors takes no two names for one memory.
        tensors = {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}
        metadata = {"format": FORMAT, "facts": json.dumps(facts)}
        files.write_safetensors(checkpoint.path, tensors, metadata, "The training's state")

    def restore(self, checkpoint: Checkpoint, settings: AlignSettings) -> None:
        """Takes the state of an earlier run up, where there is one. Its rate may be another, as after a
        training diverged: every step sets its own, and Adam's moments are the gradients' alone.

        Raises InputError for a file that is not such a state, for one of other settings or other data, and
        for another rate where there is no step left to take with it.
        """
        if not checkpoint.path.exists():
            return
        tensors, facts = read(checkpoint.path)
        # Older states lack the settings that came later: theirs are the defaults.
        begun = {**asdict(type(settings)()), **facts["settings"]}
        changed = [name for name, value in asdict(settings).items() if begun.get(name) != value]
        if len(tensors["curve"]) < settings.steps:
            changed = [name for name in changed if name != "rate"]
        if changed:
            raise InputError(
                f"'{checkpoint.path}' was begun with {changed[0]} {begun.get(changed[0])}, not "
                f"{getattr(settings, changed[0])}: go on with the same settings, or begin anew (--restart)."
            )
        if facts["about"] != checkpoint.about or not _same(tensors["f_t"], checkpoint.f_t):
            raise InputError(
                f"'{checkpoint.path}' was begun with another encoder, text encoder or other data: go on with "
                "the same, or begin anew (--restart)."
            )

        def rows(name: str) -> list[Tensor]:
            return [tensors[f"{name}.{i}"] for i in range(sum(k.startswith(f"{name}.") for k in tensors))]

        with torch.no_grad():
            for own, name in ((self.parameters, "parameter"), (self.followers, "follower")):
                for parameter, value in zip(own, rows(name), strict=True):
                    parameter.copy_(value)
            self.tau.copy_(tensors["tau"])
        state: dict[int, dict[str, Tensor]] = {}
        for key in (key for key in tensors if key.startswith("adam.")):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = tensors[key]
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        if hasattr(self.batches, "restore"):
            place = {k.removeprefix("batches."): v for k, v in tensors.items() if k.startswith("batches.")}
            self.batches.restore(place)
        self.curve = curve_of(tensors)
        if facts["best"]:
            device = self.parameters[0].device
            self.best = (*facts["best"], [value.to(device) for value in rows("best")])


def _same(begun: Tensor, now: Tensor) -> bool:
    """Whether these are the same vectors [L, D], but for rounding."""
    if begun.shape != now.shape:
        return False
    return bool(((begun - now).norm(dim=-1) <= ROUNDING * begun.norm(dim=-1)).all())


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """A state's tensors and facts. Raises InputError for a file that is none."""
    try:
        tensors, metadata = files.read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return tensors, json.loads(metadata["facts"])
    except ValueError as error:
        raise InputError(
            f"'{path}' is no readable training state ({error}): delete it, or begin anew (--restart)."
        ) from error
    raise InputError(
        f"'{path}' is no training state: choose another place for it, or begin anew (--restart)."
    )


def curve_of(tensors: dict[str, Tensor]) -> list[dict[str, float]]:
    """Every step's losses."""
    return [dict(zip(FIGURES, row)) for row in tensors["curve"].tolist()]
