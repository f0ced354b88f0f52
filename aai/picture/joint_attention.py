"""Injection in diffusers' transformers: inside a `with`, their joint attention obeys a sampling's control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..errors import InputError
from .control import Groups, JointInjection
from .velocity import Velocity


@contextmanager
def injected(
    velocity: Velocity, injection: JointInjection, groups: Groups, lengths: Sequence[int]
) -> Iterator[None]:
    """Inside, a transformer whose sequences begin with the text runs with an injection. `lengths` are each
    batch row's own text places: what lies behind them, up to the longest, is seen by no one.

    Raises InputError where its attention does not come by torch's own, and would be left as it is.
    """
    mode = _JointAttention(injection, groups, lengths)
    hooks = [hook for module in velocity.attention for hook in mode.marking(module)]
    try:
        with mode:
            yield
    finally:
        for hook in hooks:
            hook.remove()
    if not mode.taken:
        raise InputError(
            "This transformer's attention is not torch's own, and edits cannot reach it: leave diffusers' "
            "attention backend at its default (native), or edit in ComfyUI."
        )


class _JointAttention(TorchFunctionMode):
    """Takes the attention call that each marked module makes."""

    def __init__(self, injection: JointInjection, groups: Groups, lengths: Sequence[int]):
        super().__init__()
        self.injection, self.groups, self.lengths = injection, groups, lengths
        self.inside = self.taken = False

    def marking(self, module: torch.nn.Module) -> list:
        def enter(module, args) -> None:
            self.inside = True

        def leave(module, args, output) -> None:
            self.inside = False

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if not self.inside or function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        self.inside, self.taken = False, True
        return self._attention(*args, **(kwargs or {}))

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, attn_mask=None, **options) -> Tensor:
        """query, key, value [B, heads, S, d]."""
        longest, mask = max(self.lengths), None
        if min(self.lengths) < longest:
            mask = torch.ones(len(query), 1, 1, key.shape[2], dtype=torch.bool, device=key.device)
            for row, length in zip(mask, self.lengths):
                row[..., length:longest] = False
        if attn_mask is not None:
            mask = attn_mask if mask is None else mask & attn_mask

        def attend(q: Tensor, k: Tensor, v: Tensor, queries: slice, rows: Sequence[int]) -> Tensor:
            own = mask if mask is None or len(mask) == 1 else mask[list(rows)]
            own = own if own is None or own.shape[-2] == 1 else own[..., queries, :]
            return F.scaled_dot_product_attention(q, k, v, own, **options)

        return self.injection.joint_attention(attend, query, key, value, self.groups, slice(0, longest))
