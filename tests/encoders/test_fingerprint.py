"""Fingerprints tell weights and settings apart."""

import torch

from aai.encoders.fingerprint import digest, fingerprint


def test_a_fingerprint_is_that_of_the_shape_the_name_and_the_numbers():
    weights = [torch.arange(1000.0), torch.ones(3, 2)]
    known = fingerprint(weights, "a")
    assert len(known) == 16 and known == fingerprint([w.clone() for w in weights], "a")
    others = [[weights[0] + 1e-3, weights[1]], [weights[0], torch.ones(2, 3)], weights[::-1], weights[:1], []]
    assert len({known, fingerprint(weights, "b"), *(fingerprint(other, "a") for other in others)}) == 7


def test_a_digest_is_that_of_every_number_and_setting():
    tensor = torch.arange(1000.0)
    changed = tensor.clone()
    changed[501] = 0
    assert digest(tensor, 1, "a") == digest(tensor.clone(), 1, "a")
    assert len({digest(*parts) for parts in ((tensor,), (changed,), (tensor, 1), (tensor, "1"), ())}) == 5
