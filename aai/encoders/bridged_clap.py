"""LAION-CLAP behind a bridge: its sounds in a text encoder's space."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound
from ..errors import InputError
from .clap import CLAPEncoder
from .known import Known

MEMORY_TAU = 0.01
"""DeCap's temperature of the softmax over caption embeddings."""


class Bridge(nn.Module):
    """CLAP's sounds [B, d] to a text space [B, e], both of length one.

    With `memory` [N, d] (DeCap) a sound becomes a mean of the texts near it; without, the sounds' mean
    `mean_a` is replaced by the texts', `mean_x`.
    """

    def __init__(self, d: int, e: int, memory: int = 0, hidden: int = 0):
        super().__init__()
        for name, shape in (
            ("weight", (e, d)),
            ("mean_a", (d,)),
            ("mean_x", (d,)),
            ("mean_y", (e,)),
            ("memory", (memory, d)),
            # Scales the predictions about mean_y, so that they spread as the words do.
            ("stretch", ()),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.mlp = None
        if hidden:
            self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, e))
            nn.init.zeros_(self.mlp[-1].weight)
            nn.init.zeros_(self.mlp[-1].bias)

    def cross(self, x: Tensor) -> Tensor:
        """Centred texts [B, d] of CLAP to centred y [B, e]."""
        y = x @ self.weight.T
        return y if self.mlp is None else y + self.mlp(x)

    @torch.no_grad()
    def texts(self, x: Tensor) -> Tensor:
        """CLAP's texts [B, d] to [B, e]."""
        return F.normalize(self.mean_y + self.stretch * self.cross(x - self.mean_x), dim=-1)

    @torch.no_grad()
    def forward(self, a: Tensor) -> Tensor:
        if not len(self.memory):
            return self.texts(a - self.mean_a + self.mean_x)
        near = (a @ self.memory.T / MEMORY_TAU).softmax(-1)
        return self.texts(F.normalize(near @ self.memory, dim=-1))


class BridgedCLAP:
    """CLAP's sound tower and a bridge, as a SoundEncoder of a picture model's text space.

    A sound's windows are averaged in CLAP's space, then mapped.
    """

    family = "clap-bridge"
    sees = False
    presence = None

    def __init__(
        self,
        clap: CLAPEncoder,
        bridge: Bridge,
        labels: list[str],
        label_vectors: Tensor,
        tau: float = 0.05,
        name: str = "CLAP",
        space: str = "",
        notes: Mapping[str, str] | None = None,
        known: Known | None = None,
    ):
        self.clap, self.bridge, self.known = clap, bridge.eval().requires_grad_(False), known
        self.labels, self.label_vectors = labels, F.normalize(label_vectors.float(), dim=-1)
        self.tau, self.name, self.space, self.notes = tau, name, space, dict(notes or {})
        self.rate, self.seconds, self.dim = clap.rate, clap.seconds, len(bridge.mean_y)

    def embed(self, sounds: Iterable[Sound], *, own_length: bool = False) -> Tensor:
        """Sounds of any rate, channel count and length to [B, dim] of length one, the only one they have
        here."""
        return self.bridge(self.clap.embed(sounds))

    def to(self, device: torch.device | str) -> BridgedCLAP:
        """Moves the sound tower; its embeddings come to the CPU, where the bridge stays."""
        self.clap.to(device)
        return self

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """This family's own weights and settings, as its files hold them."""
        tower, settings = self.clap.state()
        weights = {f"clap.{k}": v for k, v in tower.items()}
        weights |= {f"bridge.{k}": v for k, v in self.bridge.state_dict().items()}
        hidden = 0 if self.bridge.mlp is None else self.bridge.mlp[0].out_features
        shape = {"d": self.clap.dim, "e": self.dim, "memory": len(self.bridge.memory), "hidden": hidden}
        return weights, {**settings, "bridge": json.dumps(shape)}

    @classmethod
    def restore(
        cls, weights: dict[str, Tensor], settings: Mapping[str, str], file: str, **common
    ) -> BridgedCLAP:
        """An encoder from its `state`; `common` is what the files of every family hold.

        Raises InputError where weights are missing; KeyError, TypeError or ValueError for bad settings.
        """
        tower = {k.removeprefix("clap."): v for k, v in weights.items() if k.startswith("clap.")}
        own = {k.removeprefix("bridge."): v for k, v in weights.items() if k.startswith("bridge.")}
        shape = json.loads(settings["bridge"])
        # Before a bridge of impossible sizes takes the memory.
        if max(shape.values()) > max((max(v.shape, default=1) for v in own.values()), default=1):
            raise ValueError("its sizes are those of a larger bridge than its weights")
        bridge = Bridge(**shape)
        try:
            bridge.load_state_dict(own)
        except RuntimeError as error:
            raise InputError(f"'{file}' lacks a part of its bridge: save or download it again.") from error
        return cls(CLAPEncoder.restore(tower, settings, file), bridge, **common)
