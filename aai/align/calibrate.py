"""Fits the test of what an encoder knows, after its training: its clips against sounds of no label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound
from ..encoders.cavmae_encoder import CAVMAEEncoder
from ..encoders.known import Known, new_head
from .evaluate import clip_features
from .features import Features

REFUSED = 0.05
"""The share of known sounds that the threshold calls unknown."""
CLIPS = 2000
"""How many of the training's clips are compared: more make the test no better."""
STEPS, RATE, JITTER = 2000, 3e-3, 0.02


def calibrate(
    encoder: CAVMAEEncoder, train: Features, held_out: Features | None, outside: Sequence[Sound]
) -> Known:
    """The test for an encoder that was trained on `train`, whose threshold refuses REFUSED of the clips that
    it was not fitted on: the held-out ones, or a fifth of the training's. `outside` are sounds of other
    kinds; those that are of a label after all (`strange`) are left out."""
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))[:CLIPS]
    inside = clip_features(encoder.model, train, order.tolist())
    test = clip_features(encoder.model, held_out) if held_out else None
    return fit_known(inside, strange(inside, encoder.embed(list(outside)).cpu()), test)


def strange(inside: Tensor, outside: Tensor) -> Tensor:
    """Of sounds f_a [M, dim] those that are farther from every clip [N, dim] than 19 of 20 clips are from
    their nearest, at least a quarter: what is a stranger to one set of labels may be another set's own."""
    inside, others = (F.normalize(f_a.float(), dim=-1) for f_a in (inside, outside))
    if len(inside) < 2:
        return outside
    usual = (inside @ inside.T).fill_diagonal_(-1).amax(1).quantile(0.05)
    nearness = (others @ inside.T).amax(1)
    least = max(1, len(outside) // 4)
    far = nearness < max(float(usual), float(nearness.kthvalue(least).values) + 1e-6)
    return outside[far]


def fit_known(inside: Tensor, outside: Tensor, held_out: Tensor | None = None, seed: int = 0) -> Known:
    """Two layers that tell f_a of known sounds [N, dim] from those of others [M, dim].

    The threshold is the probability below which REFUSED of `held_out` [K, dim] lie; without it, of every
    fifth known sound, which is then left out of a first fit.
    """
    if held_out is None:
        fifth = torch.arange(len(inside)) % 5 == 4
        if not fifth.any():
            fifth = torch.ones(len(inside), dtype=torch.bool)
        first = _fitted(inside[~fifth] if (~fifth).any() else inside, outside, seed)
        threshold = _threshold(first, inside[fifth])
        return Known.of(_fitted(inside, outside, seed), threshold)
    fitted = _fitted(inside, outside, seed)
    return Known.of(fitted, _threshold(fitted, held_out))


def _threshold(head: nn.Sequential, f_a: Tensor) -> float:
    scores = Known.of(head).probability(f_a)
    return min(0.5, float(scores.quantile(REFUSED)))


def _fitted(inside: Tensor, outside: Tensor, seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    f_a = F.normalize(torch.cat([inside, outside]).float(), dim=-1)
    known = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))])
    # Both kinds count alike, however many there are of each.
    weight = torch.where(known == 1, 0.5 / len(inside), 0.5 / len(outside))
    head = new_head(f_a.shape[1])
    with torch.no_grad():
        for layer in (head[0], head[2]):
            layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    with torch.enable_grad():
        for _ in range(STEPS):
            noisy = f_a + JITTER * torch.randn(f_a.shape, generator=generator)
            scores = head(F.normalize(noisy, dim=-1))[:, 0]
            loss = (weight * F.binary_cross_entropy_with_logits(scores, known, reduction="none")).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.requires_grad_(False)
