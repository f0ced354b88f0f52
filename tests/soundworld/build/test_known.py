"""What SoundWorld's encoder knows, fitted with its towers as they are."""

import pytest
import torch

from aai.audio import loudness
from aai.soundworld.build import known
from aai.soundworld.build.clips import OUTSIDE, Clip, energies_of
from aai.soundworld.loaders import load_sound_encoder
from aai.soundworld.outside import synthesize_outside
from aai.soundworld.sounds import synthesize
from aai.soundworld.world import EVENTS


def clip(sound, event):
    return Clip(energies_of(sound), event, loudness(sound), "a group")


@pytest.fixture(scope="module")
def encoder():
    return load_sound_encoder()


def test_features_are_the_encoders_own(encoder, monkeypatch):
    monkeypatch.setattr(known, "IN_PART", 0.0)
    sound = synthesize("rain", 0.6, 3)
    (f_a,) = known.features(encoder, [clip(sound, 0)], torch.Generator().manual_seed(0))
    level = torch.rand(4, generator=torch.Generator().manual_seed(0))[2].item()
    wanted = -45 + 30 * level
    same = type(sound)(sound.waveform * 10 ** ((wanted - loudness(sound)) / 20), sound.rate)
    assert torch.cosine_similarity(f_a, encoder.embed([same])[0], dim=0) > 0.95


def test_strangers_are_told_from_the_worlds_sounds(encoder):
    inside = [clip(synthesize(event, 0.5, seed), i) for i, event in enumerate(EVENTS) for seed in (1, 2)]
    outside = [
        clip(synthesize_outside(kind, seed), OUTSIDE) for kind in ("bells", "strings") for seed in range(8)
    ]
    test = known.fitted(encoder, inside + outside, [])
    scores = [
        test.probability(encoder.embed([sound])).item()
        for sound in (
            synthesize("rain", 0.6, 99),
            synthesize("fire", 0.6, 99),
            synthesize_outside("bells", 99),
            synthesize_outside("strings", 99),
        )
    ]
    assert min(scores[:2]) > 0.5 > max(scores[2:])
