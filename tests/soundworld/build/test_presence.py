"""What tells SoundWorld's encoder which events a recording has: made, kept and found again."""

from __future__ import annotations

import shutil

import torch

from aai.soundworld.build import presence
from aai.soundworld.captions import label_of
from aai.soundworld.evaluate.hearing import mixed
from aai.soundworld.loaders import WEIGHTS, load_sound_encoder
from aai.soundworld.world import EVENTS


def test_mixtures_have_one_word_or_two():
    encoder = load_sound_encoder()
    rows, there = presence.heard(encoder, each=1, count=12)
    assert rows.shape == (12, 2 * encoder.dim) and there.shape == (12, len(encoder.labels))
    assert set(there.sum(1).tolist()) <= {1.0, 2.0} and (there.sum(1) == 2).sum() >= 6
    again, _ = presence.heard(encoder, each=1, count=12)
    assert torch.equal(rows, again)


def test_it_learns_what_can_be_told():
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    there = (rows[:, :2] > 0).float()
    made = presence.fit(rows, there)
    assert ((made.logits(rows) > 0).float() == there).float().mean() > 0.95


def test_it_goes_with_the_encoder_that_it_was_made_for(tmp_path, monkeypatch):
    shutil.copy(WEIGHTS / "sound_encoder.safetensors", tmp_path)
    assert load_sound_encoder(tmp_path).presence is None
    presence.write(tmp_path, each=1, count=8)
    assert load_sound_encoder(tmp_path).presence is not None
    monkeypatch.setattr("aai.encoders.fingerprint.encoder_fingerprint", lambda *given: "another's")
    assert load_sound_encoder(tmp_path).presence is None


def test_the_shipped_one_hears_both_of_a_mixture():
    encoder = load_sound_encoder()
    sound, _ = mixed("dog", "sea waves", 4.0, 11)
    probable = encoder.presence(encoder, sound)
    words = {encoder.labels[i] for i in probable.topk(2).indices.tolist()}
    assert words == {label_of("dog", encoder), label_of("sea waves", encoder)}
    assert len(probable) == len(EVENTS)
