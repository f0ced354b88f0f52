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
"""How far a label's vector may lie from the same label's on another machine, as a share of its length."""


def _same(begun: Tensor, now: Tensor) -> bool:
    """Whether these are the same vectors [L, D], up to rounding."""
    if begun.shape != now.shape:
        return False
    return bool(((begun - now).norm(dim=-1) <= ROUNDING * begun.norm(dim=-1)).all())


def read(path: Path, anew: str = "begin anew") -> tuple[dict[str, Tensor], dict]:
    """A state's tensors and facts. Raises InputError, with `anew` as the way out, for a file that is not
    one."""
    try:
        tensors, metadata = files.read_safetensors(path)
        if metadata.get("format") == FORMAT:
            facts = json.loads(metadata["facts"])
            _check(tensors, facts)
            return tensors, facts
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"'{path}' is no readable training state ({error}): delete it, or {anew}."
        ) from error
    raise InputError(f"'{path}' is no training state: choose another place for it, or {anew}.")


def _check(tensors: dict[str, Tensor], facts: dict) -> None:
    """Raises KeyError, TypeError or ValueError where a part of every state is missing or of another kind."""
    if not isinstance(facts["settings"], dict) or not isinstance(facts["about"], str):
        raise ValueError("it does not say what it was begun with")
    best = facts["best"]
    if best is not None and (len(best) != 3 or not all(isinstance(x, int | float | None) for x in best)):
        raise ValueError(f"its best step is {best}")
    if not isinstance(facts.get("measured"), int | float | None):
        raise ValueError(f"its last measure is {facts['measured']}")
    curve = tensors["curve"]
    if curve.ndim != 2 or curve.shape[1] != len(FIGURES):
        raise ValueError(f"its curve is {list(curve.shape)}")
    if tensors["f_t"].ndim != 2 or tensors["tau"].numel() != 1 or tensors["generator"].dtype != torch.uint8:
        raise ValueError("its labels, temperature or random numbers are of another kind")


def curve_of(tensors: dict[str, Tensor]) -> list[dict[str, float]]:
    """Every step's losses."""
    return [dict(zip(FIGURES, row)) for row in tensors["curve"].tolist()]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept, every so many steps; `about` names what it starts from and learns (the
    encoder, the data), and `f_t` [L, D] are its labels' vectors: a training resumes only with the same, the
    vectors up to another machine's rounding. `restart` is how the caller's users ask for a new beginning, for
    the errors' texts."""

    path: Path
    every: int = 200
    about: str = ""
    f_t: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    restart: str = ""

    def anew(self, how: str = "") -> str:
        """ "begin anew ..." as an error's text advises it."""
        return " ".join(filter(None, ("begin anew", how, self.restart and f"({self.restart})")))


@dataclass(frozen=True)
class Best:
    """Weights that are worth keeping, the step (counted from 1) that led to them, the temperature there and,
    where it was taken, their measured quality."""

    weights: list[Tensor]
    step: int
    tau: float
    measured: float | None = None

    @classmethod
    def copied(cls, parameters: list[Tensor], step: int, tau: float, measured: float | None = None) -> Best:
        """Of parameters that will move on."""
        return cls([parameter.detach().clone() for parameter in parameters], step, tau, measured)

    @torch.no_grad()
    def put(self, parameters: list[Tensor]) -> None:
        """Gives the parameters these weights."""
        for parameter, value in zip(parameters, self.weights, strict=True):
            parameter.copy_(value)


@dataclass
class TrainingState:
    """What a step of `align` changes: the tuned weights, their twin's, Adam's moments, the temperature, the
    random numbers and, where the batches have one, their place in the data; the losses of every step, the
    weights that measured best so far, and what was measured last."""

    parameters: list[Tensor]
    followers: list[Tensor]
    optimizer: torch.optim.Optimizer
    tau: Tensor
    generator: torch.Generator
    batches: object
    curve: list[dict[str, float]] = field(default_factory=list)
    best: Best | None = None
    measured: float | None = None

    def save(self, checkpoint: Checkpoint, settings: AlignSettings) -> None:
        """Writes the state in one move. Raises InputError where it cannot be written."""
        rows = {
            "parameter": self.parameters,
            "follower": self.followers,
            "best": self.best.weights if self.best else [],
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
            "best": [self.best.measured, self.best.step, self.best.tau] if self.best else None,
            "measured": self.measured,
        }
        # Copies: safetensors takes no two names for one memory.
        tensors = {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}
        metadata = {"format": FORMAT, "facts": json.dumps(facts)}
        files.write_safetensors(checkpoint.path, tensors, metadata, "The training's state")

    def restore(self, checkpoint: Checkpoint, settings: AlignSettings) -> None:
        """Loads the state of an earlier run, where there is one. Its rate may differ, as after a training
        diverged: every step sets its own, and Adam's moments are the gradients' alone.

        Raises InputError for a file that is not such a state, for one of other settings or other data, and
        for another rate where there is no step left to take with it.
        """
        if not checkpoint.path.exists():
            return
        tensors, facts = read(checkpoint.path, checkpoint.anew())
        # Older states lack the settings that came later: theirs are the defaults.
        begun = {**asdict(type(settings)()), **facts["settings"]}
        changed = [name for name, value in asdict(settings).items() if begun.get(name) != value]
        if len(tensors["curve"]) < settings.steps:
            changed = [name for name in changed if name != "rate"]
        if changed:
            raise InputError(
                f"'{checkpoint.path}' was begun with {changed[0]} {begun.get(changed[0])}, not "
                f"{getattr(settings, changed[0])}: go on with the same settings, or {checkpoint.anew()}."
            )
        if facts["about"] != checkpoint.about or not _same(tensors["f_t"], checkpoint.f_t):
            raise InputError(
                f"'{checkpoint.path}' was begun with another encoder, text encoder or other data: go on with "
                f"the same, or {checkpoint.anew()}."
            )
        try:
            self._take(tensors, facts)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise InputError(
                f"'{checkpoint.path}' is no readable training state ({error}): delete it, or "
                f"{checkpoint.anew()}."
            ) from error

    def _take(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Sets everything to what `save` wrote. Raises KeyError, TypeError, ValueError, RuntimeError or
        IndexError for tensors that are missing or of another size."""

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
        # 0.1.0 kept the best alone.
        self.measured = facts.get("measured")
        if facts["best"]:
            device = self.parameters[0].device
            measured, step, tau = facts["best"]
            self.best = Best([value.to(device) for value in rows("best")], step, tau, measured)
