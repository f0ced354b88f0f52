"""A few real training steps of SoundWorld's sound encoder."""

import torch

from aai.encoders.cavmae import CAVMAE
from aai.soundworld.build import sound_encoder


def test_hearing_trains_on_sounds_of_every_loudness(caption_encoder):
    torch.manual_seed(0)
    clips = sound_encoder.Clips(
        torch.randn(20, 512, 128).half() - 6, torch.arange(20) % 10, torch.full((20,), -25.0)
    )
    text = sound_encoder.level_vectors(caption_encoder)
    assert text.shape == (10, 5, 192)
    visual_labels = torch.arange(50).repeat(2)
    source = sound_encoder.batches(clips, clips, text, torch.randn(100, 192), visual_labels)
    pairs = source(torch.Generator().manual_seed(0), 30)
    assert pairs.fbanks.shape == (30, 512, 128) and torch.isfinite(pairs.fbanks).all()
    torch.testing.assert_close(pairs.f_t, text.flatten(0, 1)[pairs.labels])
    assert len(pairs.labels.unique()) > 10
    model = CAVMAE(sound_encoder.CONFIG)
    before = model.blocks_a[0].attn.qkv.weight.clone()
    sound_encoder.train_hearing(model, source, steps=2, rate=1e-3, keep=0.4, batch=4)
    assert not torch.equal(before, model.blocks_a[0].attn.qkv.weight)
