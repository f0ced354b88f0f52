"""Clips in shards are those in folders."""

import os

import torch

from aai.data.clip_writer import PrepareSettings
from aai.data.clips import scan
from aai.data.prepare import prepare

SHORT = PrepareSettings(seconds=1.0, frames=8, keep=4)


def test_shards_hold_what_folders_hold(videos, tmp_path):
    prepare(videos, tmp_path / "folders", SHORT)
    sharded = PrepareSettings(**{**vars(SHORT), "shard": 2})
    prepare(videos, tmp_path / "shards", sharded)
    assert [p.name for p in sorted((tmp_path / "shards").glob("*.tar"))] == ["shard-000000.tar"]
    plain = scan(tmp_path / "folders")
    (tmp_path / "bare").mkdir()
    os.link(tmp_path / "shards" / "shard-000000.tar", tmp_path / "bare" / "shard-000000.tar")
    bare = tmp_path / "bare"
    for packed in (scan(tmp_path / "shards"), scan(bare), scan(bare / "shard-000000.tar")):
        assert [(c.id, c.label, c.split) for c in packed] == [(c.id, c.label, c.split) for c in plain]
        for one, other in zip(packed, plain):
            assert torch.equal(one.load_sound().waveform, other.load_sound().waveform)
            assert len(one.pictures) == len(other.pictures) == 4
            assert torch.equal(one.load_picture(2), other.load_picture(2))
