"""Gradient checkpointing (Chen et al. 2016) of any modules, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointing(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, the modules keep their inputs only, and compute the rest again in the backward pass."""
    before = [(module, vars(module).get("forward")) for module in modules]
    for module, _ in before:
        module.forward = _checkpointed(module.forward)
    try:
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own


def _checkpointed(forward: Callable) -> Callable:
    def again(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # Copies: ComfyUI writes into its options which block it is in, and would find the last one's then.
        args = [dict(a) if isinstance(a, dict) else a for a in args]
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return again
