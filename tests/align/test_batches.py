"""Batches: every clip once an epoch, shared by processes, resumed where they were."""

import torch

from aai.align.augment import Augment
from aai.align.batches import Batches
from aai.distributed import Distributed


def test_every_clip_comes_once_an_epoch_and_ranks_share_a_batch(features, tiny):
    alone, ranks = Batches(features, tiny, Augment(noise=True)), [Distributed(i, 2) for i in range(2)]
    shared = [Batches(features, tiny, Augment(noise=True), distributed=rank) for rank in ranks]
    drawn = []
    for _ in range(6):
        generators = [torch.Generator().manual_seed(5) for _ in range(3)]
        whole, *parts = (deal(g, 4) for deal, g in zip((alone, *shared), generators))
        for name in ("fbanks", "f_t", "f_v", "labels"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
        drawn.append(whole.labels)
    for epoch in range(3):
        labels = torch.cat(drawn[2 * epoch : 2 * epoch + 2])
        assert labels.bincount().tolist() == [4, 4]


def test_batches_go_on_from_where_they_were(features, tiny):
    generator = torch.Generator().manual_seed(0)
    deal = Batches(features, tiny, Augment(noise=True))
    deal(generator, 3)
    state = {key: value.clone() for key, value in deal.state().items()}
    expected = [deal(generator, size).fbanks for size in (3, 3, 2, 2)]
    again = Batches(features, tiny, Augment(noise=True))
    again.restore(state)
    for size, fbanks in zip((3, 3, 2, 2), expected):
        assert torch.equal(again(generator, size).fbanks, fbanks)


def test_batches_pair_clips_with_what_belongs_to_them(features, tiny):
    deal = Batches(features, tiny)
    pairs = deal(torch.Generator().manual_seed(0), 6)
    assert pairs.fbanks.shape == (6, 64, 32) and pairs.tokens_v.shape == (6, 4, 16)
    owners = {int(row): i for i, rows in enumerate(features.windows) for row in rows}
    drawn = []
    for fbank, f_t, f_v, label in zip(pairs.fbanks, pairs.f_t, pairs.f_v, pairs.labels):
        window = next(i for i, row in enumerate(features.fbanks) if torch.equal(row.float(), fbank))
        clip = owners[window]
        drawn.append(clip)
        assert features.labels[clip] == label
        assert torch.equal(f_t, features.f_t[label])
        assert any(torch.equal(f_v, features.f_v[row]) for row in features.pictures[clip])
    assert len(set(drawn)) == 6
    assert len(deal(torch.Generator(), 100).labels) == 8
