"""Injection in diffusers' U-Nets: attention processors that come and go with a `with`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .control import ControlRun, Groups, Injection

PLAIN = ("AttnProcessor", "AttnProcessor2_0")


class Injector:
    """What the U-Net's attention injects in its next call, of one sampling's `run`."""

    def __init__(self, run: ControlRun) -> None:
        self.run = run
        self.step: tuple[Injection, Groups] | None = None
        self.size: tuple[int, int] = (1, 1)

    def set(self, injection: Injection, groups: Groups, latents: Tensor) -> None:
        """For noisy latents [B, C, h, w]."""
        self.step = injection.to(latents), groups
        self.size = tuple(latents.shape[-2:])


@contextmanager
def injecting(unet: nn.Module, run: ControlRun) -> Iterator[Injector]:
    """Inside, the U-Net's attention obeys the yielded injector; afterwards its own processors are back.

    Raises InputError for a U-Net whose attention already does something of its own (IP-Adapter).
    """
    before = unet.attn_processors
    other = next((type(p).__name__ for p in before.values() if type(p).__name__ not in PLAIN), None)
    if other is not None:
        raise InputError(
            f"The U-Net's attention is a {other}, which edits cannot stand beside here: take it off first, "
            "or edit in ComfyUI, where they can."
        )
    injector = Injector(run)
    unet.set_attn_processor({name: _Processor(p, injector) for name, p in before.items()})
    try:
        yield injector
    finally:
        unet.set_attn_processor(dict(before))


class _Processor:
    def __init__(self, plain, injector: Injector):
        self.plain, self.injector = plain, injector

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **options):
        if self.injector.step is None:
            return self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, **options)
        injection, groups = self.injector.step

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v)

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        v = heads(attn.to_v(context))
        if encoder_hidden_states is not None:
            q, k = heads(attn.to_q(hidden_states)), heads(attn.to_k(context))
            self.injector.run.observe(attend, q, k, groups, self.injector.size)
            out = injection.cross_attention(attend, q, k, v, groups)
        else:
            borrowed = injection.self_attention(hidden_states, groups, self.injector.size)
            out = attend(heads(attn.to_q(borrowed)), heads(attn.to_k(borrowed)), v)
        out = out.transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))
