"""`python -m aai.soundworld.build.presence`: what tells SoundWorld's encoder which events a recording has,
from its finished weights.

Synthesized sounds of every event are mixed, two of different events 0 to 14 dB apart or one alone, and a
small network learns from the encoder's tokens which are there. The encoder stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...encoders.fingerprint import encoder_fingerprint
from ...encoders.presence import Presence, statistics
from ..captions import label_of
from ..loaders import PRESENCE, WEIGHTS, load_sound_encoder
from ..sounds import at_any_level, at_once, synthesize
from ..world import EVENTS
from .kept import write_weights

SEEDS = 5_000_000
"""Where the sounds' seeds begin: no encoder was trained on these."""
ALONE, FARTHEST = 0.15, 14.0
"""The share of sounds that are alone, and decibels between two."""
WIDTH, ROUNDS, BATCH = 128, 25, 64


def heard(
    encoder: CAVMAEEncoder,
    each: int = 60,
    count: int = 2400,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Token statistics [count, 2 dim] of mixtures of `each` sounds of every event, and which of the encoder's
    words they have, 0 or 1 [count, L]."""
    rng = np.random.default_rng([SEEDS, seed])
    sounds = [
        [synthesize(event, float(rng.uniform(0.3, 1)), SEEDS + each * number + i) for i in range(each)]
        for number, event in enumerate(EVENTS)
    ]
    words = [encoder.labels.index(label_of(event, encoder)) for event in EVENTS]
    rows, there = [], torch.zeros(count, len(encoder.labels))
    for i in range(count):
        first, second = rng.choice(len(EVENTS), 2, replace=False)
        a, b = rng.integers(each, size=2)
        sound = sounds[first][a]
        there[i, words[first]] = 1
        if rng.random() >= ALONE:
            sound = at_once(sound, sounds[second][b], rng.uniform(0, FARTHEST))
            there[i, words[second]] = 1
        rows.append(statistics(encoder, at_any_level(sound, rng)))
        if report and (i + 1) % 200 == 0:
            report(f"{i + 1} of {count} heard")
    return torch.cat(rows), there


def fit(rows: Tensor, there: Tensor, seed: int = 0) -> Presence:
    """The network that tells which words [N, L] token statistics [N, 2 dim] have."""
    mean, spread = rows.mean(0), rows.std(0) + 1e-4
    x = (rows - mean) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(x.shape[1], WIDTH),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(WIDTH, there.shape[1]),
        )
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
        for _ in range(ROUNDS):
            for part in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(net(x[part]), there[part]).backward()
                optimizer.step()
    hidden, out = net[1].requires_grad_(False), net[4].requires_grad_(False)
    return Presence(mean, spread, hidden.weight, hidden.bias, out.weight, out.bias)


def write(folder: Path = WEIGHTS, report: Callable[[str], None] | None = None, **size: int) -> None:
    """Makes it for the encoder in `folder` and writes it beside that."""
    encoder = load_sound_encoder(folder)
    presence = fit(*heard(encoder, report=report, **size))
    metadata = {"encoder": encoder_fingerprint(encoder.family, encoder.state()[0])}
    write_weights(folder, PRESENCE, presence.state(), metadata)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build.presence", description=__doc__)
    parser.parse_args()
    write(report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
