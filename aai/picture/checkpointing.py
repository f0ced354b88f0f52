"""Gradient checkpointing (Chen et al. 2016) of any modules, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointing(
    modules: Iterable[nn.Module], within: Callable[[], AbstractContextManager] = nullcontext
) -> Iterator[None]:
    """Inside, the modules keep their inputs only, and compute the rest again in the backward pass, both times
    `within()`. They may change their inputs in place."""
    before = [(module, vars(module).get("forward")) for module in modules]
    for module, _ in before:
        module.forward = _checkpointed(module.forward, within)
    try:
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own


def _checkpointed(forward: Callable, within: Callable[[], AbstractContextManager]) -> Callable:
    def anew(*args, **kwargs):
        return forward(*map(_own, args), **{k: _own(v) for k, v in kwargs.items()})

    def again(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # Copies: ComfyUI writes into its options which block it is in, and would find the last one's then.
        args = [dict(a) if isinstance(a, dict) else a for a in args]
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        return checkpoint(
            anew, *args, use_reentrant=False, preserve_rng_state=False,
            context_fn=lambda: (within(), within()), **kwargs,
        )  # fmt: skip

    return again


def _own(value):
    return value.clone() if isinstance(value, Tensor) and value.requires_grad else value
