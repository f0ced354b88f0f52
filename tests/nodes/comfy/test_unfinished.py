"""What an edit leaves for the sampler after it."""

from __future__ import annotations

import torch


def test_an_edit_is_found_by_its_latent_alone(pack):
    part = pack.part("nodes.comfy.unfinished")
    generator = torch.Generator().manual_seed(3)
    edited, source = (torch.randn(1, 4, 6, 6, generator=generator) for _ in range(2))
    part.leave(edited, source, generator)
    found = part.begun(edited + 1e-4)
    assert torch.equal(found.source, source) and torch.equal(found.noise, generator.get_state())
    assert part.begun(edited[..., :5]) is None and part.begun(edited + 0.1) is None
    part.leave(edited, -source, generator)
    assert torch.equal(part.begun(edited).source, -source)
    for step in range(part.KEPT):
        assert part.begun(edited) is not None
        part.leave(edited + 1 + step, source, generator)
    assert part.begun(edited) is None
