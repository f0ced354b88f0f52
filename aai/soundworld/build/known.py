"""Fits what SoundWorld's encoder knows, its towers as they are: `python -m aai.soundworld.build.known`.

Two layers on f_a (`align.calibrate`) tell the world's sounds, synthesized and recorded, from synthesized and
recorded sounds of other kinds, whole and in parts, at every loudness.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...align.calibrate import fit_known
from ...encoders.cavmae_encoder import CAVMAEEncoder
from ...encoders.known import Known
from ...encoders.loaders import save
from ..loaders import WEIGHTS, load_sound_encoder
from ..sounds import LOUDEST_LUFS, QUIETEST_LUFS
from ..world import FOLDS
from .clips import FLOOR, FRAMES_A_SECOND, OUTSIDE, QUIETEST, Clip
from .ears import MADE_BY, of_packages, recorded, synthesized
from .sound_encoder import CONFIG, nepers

EVENTS_SYNTHESIZED, OTHERS_SYNTHESIZED = 1800, 700
TIMES = 6
"""How often a recording of an event is taken, each time another part of it at another level."""
IN_PART = 0.4
THRESHOLD = 0.5
"""The encoder has heard the recordings that it is fitted on: their scores say nothing of unheard ones'."""


@torch.no_grad()
def features(encoder: CAVMAEEncoder, clips: list[Clip], generator: torch.Generator) -> Tensor:
    """f_a of clips [N, dim], of length one: IN_PART of them cut to 1 to 5 s, all at random levels."""
    rows = []
    for clip in clips:
        begin, length, level, part = torch.rand(4, generator=generator).tolist()
        energies = clip.energies.float()
        if part < IN_PART:
            frames = int(FRAMES_A_SECOND * (1 + (CONFIG.seconds - 1) * length))
            begin = int(begin * max(1, len(energies) - frames + 1))
            energies = energies[begin : begin + frames]
        wanted = QUIETEST_LUFS + (LOUDEST_LUFS - QUIETEST_LUFS) * level
        energies = energies + nepers(wanted - max(clip.loudness, QUIETEST))
        energies = energies[: int(FRAMES_A_SECOND * CONFIG.seconds) - 2].clamp(min=FLOOR)
        rows.append(F.pad(energies, (0, 0, 0, CONFIG.frames - len(energies)), value=FLOOR))
    parts = [
        encoder.model.audio_features((torch.stack(rows[i : i + 16]) - CONFIG.fbank_mean) / CONFIG.fbank_std)
        for i in range(0, len(rows), 16)
    ]
    return F.normalize(torch.cat(parts), dim=-1)


def fitted(encoder: CAVMAEEncoder, clips: list[Clip], recordings: list[Clip], seed: int = 0) -> Known:
    """The test of what an encoder knows, from synthesized clips and recordings of both kinds."""
    generator = torch.Generator().manual_seed(seed)
    inside = [c for c in clips if c.event != OUTSIDE] + TIMES * [c for c in recordings if c.event != OUTSIDE]
    outside = [c for c in (*clips, *recordings) if c.event == OUTSIDE]
    known = fit_known(features(encoder, inside, generator), features(encoder, outside, generator))
    return replace(known, threshold=THRESHOLD)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build.known", description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True, help="ESC-10's folder of classes")
    parser.add_argument(
        "--debian", type=Path, required=True, help="what `python -m aai.soundworld.build.debian` brought"
    )
    options = parser.parse_args()
    encoder = load_sound_encoder()
    recordings = [*recorded(options.recordings, FOLDS), *of_packages(options.debian)]
    encoder.known = fitted(encoder, synthesized(EVENTS_SYNTHESIZED, OTHERS_SYNTHESIZED), recordings)
    save(encoder, WEIGHTS / "sound_encoder.safetensors", made_by=MADE_BY)
    print(f"{len(recordings)} recordings; threshold {encoder.known.threshold:.2f}", flush=True)


if __name__ == "__main__":
    main()
