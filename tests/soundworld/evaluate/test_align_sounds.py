"""The sounds of the alignment study, in batches."""

import torch

from aai.soundworld.build.sound_encoder import level_vectors
from aai.soundworld.evaluate import align_sounds


def test_batches_hold_sounds_of_every_loudness(caption_encoder):
    torch.manual_seed(0)
    clips = align_sounds.Clips(
        torch.randn(20, 512, 128).half() - 6, torch.arange(20) % 10, torch.full((20,), -25.0)
    )
    text = level_vectors(caption_encoder)
    assert text.shape == (10, 5, 192)
    visual_labels = torch.arange(50).repeat(2)
    source = align_sounds.batches(clips, text, torch.randn(100, 192), visual_labels)
    pairs = source(torch.Generator().manual_seed(0), 30)
    assert pairs.fbanks.shape == (30, 512, 128) and torch.isfinite(pairs.fbanks).all()
    torch.testing.assert_close(pairs.f_t, text.flatten(0, 1)[pairs.labels])
    assert len(pairs.labels.unique()) > 10


def test_synthesized_clips_take_the_events_in_turn():
    clips = align_sounds.synthetic_clips(3, seed=3)
    assert clips.fbanks.shape == (3, 512, 128) and torch.isfinite(clips.fbanks).all()
    assert clips.events.tolist() == [0, 1, 2]
    assert torch.equal(clips.fbanks[:1], align_sounds.synthetic_clips(1, seed=3).fbanks)
    assert not torch.equal(clips.fbanks[:1], align_sounds.synthetic_clips(1, seed=4).fbanks)
