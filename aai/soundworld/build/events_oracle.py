"""`python -m aai.soundworld.build.events_oracle`: the oracle that names several events in a picture.

It begins from the layers of the oracle that names one, and learns from rendered pictures of none, one, two
and three events.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...optim import set_rate
from ..loaders import WEIGHTS, load_oracle
from ..oracle import EventsOracle
from ..pictures import render_events
from ..world import EVENTS, SCENES
from .kept import write_weights
from .oracle import soften

SEED, UNSEEN = 7_000_000, 8_000_000
"""Where the seeds of pictures begin: to learn from, and to be judged on."""
HOW_MANY = (0.05, 0.35, 0.5, 0.1)
"""The shares of pictures of no event, of one, two and three."""
FAINTEST = 0.25
"""The least intensity: rain at 0.1 is a few drops, which a second event covers."""


def pictures_of(count: int, seed: int, events: int | None = None) -> tuple[Tensor, Tensor]:
    """uint8 pictures [count, 3, 128, 128], and which events each shows, 0 or 1 [count, events]; of so many
    events each, else of any number as HOW_MANY says."""
    pictures, there = [], torch.zeros(count, len(EVENTS))
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        many = int(rng.choice(len(HOW_MANY), p=HOW_MANY)) if events is None else events
        chosen = rng.choice(len(EVENTS), many, replace=False)
        there[i, chosen] = 1
        intensities = {EVENTS[number]: float(rng.uniform(FAINTEST, 1)) for number in chosen}
        pictures.append(torch.from_numpy(render_events(str(rng.choice(SCENES)), intensities, seed + i)))
    return torch.stack(pictures).permute(0, 3, 1, 2).contiguous(), there


def train(
    oracle: EventsOracle,
    pictures: Tensor,
    there: Tensor,
    *,
    steps: int = 600,
    batch: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> EventsOracle:
    """Trains in place on uint8 pictures [N, 3, 128, 128] and what they show [N, events]; returns it, frozen,
    after so many steps."""
    torch.manual_seed(seed)
    oracle.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(oracle.parameters(), lr=rate, weight_decay=0.02)
    for step in range(steps):
        set_rate(optimizer, rate, step, steps, warmup=min(50, steps // 4))
        rows = torch.randint(len(pictures), (batch,))
        loss = F.binary_cross_entropy_with_logits(oracle(soften(pictures[rows].float() / 255)), there[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if report and step % 50 == 0:
            report(f"{step} of {steps}: {loss.item():.4f}")
    return oracle.eval().requires_grad_(False)


def from_oracle(folder: Path = WEIGHTS) -> EventsOracle:
    """A new one with the layers of the oracle of one event in `folder`."""
    oracle = EventsOracle()
    oracle.down.load_state_dict(load_oracle(folder).down.state_dict())
    return oracle


def accuracy(oracle: EventsOracle, events: int, count: int = 200) -> float:
    """The share of unseen rendered pictures of so many events of which it names these and no other."""
    pictures, there = pictures_of(count, UNSEEN, events)
    shown = oracle(pictures.float() / 255) > 0
    return float((shown == there.bool()).all(-1).float().mean())


def write(folder: Path = WEIGHTS, count: int = 5000, report: Callable[[str], None] | None = None) -> None:
    """Makes it from the oracle in `folder` and writes it beside that."""
    oracle = train(from_oracle(folder), *pictures_of(count, SEED), report=report)
    if report:
        for events in (1, 2):
            report(f"all of {events} named, and no other: {100 * accuracy(oracle, events):.1f} %")
    made_by = "python -m aai.soundworld.build.events_oracle"
    write_weights(folder, "oracle_events", oracle.state_dict(), {"made_by": made_by})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build.events_oracle", description=__doc__)
    parser.parse_args()
    write(report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
