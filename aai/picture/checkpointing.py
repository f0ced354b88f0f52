"""Gradient checkpointing (Chen et al. 2016) of any frozen modules, whoever wrote them.

PyTorch's own keeps what a module saves, in the second pass, uncopied: where the module goes on to change it
in place, as several of ComfyUI's transformers do, the gradient is silently another. Here the second pass runs
in a context of the caller's, such as one that saves copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Within = Callable[[], AbstractContextManager]


@contextmanager
def checkpointing(modules: Iterable[nn.Module], within: Within = nullcontext) -> Iterator[None]:
    """Inside, the modules keep their inputs only, and compute the rest again in the backward pass, which is
    `within()`. Gradients reach their inputs, not their weights."""
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


def _checkpointed(forward: Callable, within: Within) -> Callable:
    def again(*args, **kwargs):
        # Copies: ComfyUI writes into its options which block it is in, and would find the last one's then.
        args = [dict(a) if isinstance(a, dict) else a for a in args]
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        values, shape = pytree.tree_flatten((args, kwargs))
        floats = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.is_floating_point()]
        places = [i for i in floats if values[i].requires_grad]
        if not places or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        layout = []

        def run(*inputs: Tensor) -> list[Tensor]:
            held = list(values)
            for place, value in zip(places, inputs):
                held[place] = value
            for place in floats:
                # Copies, so that the module may change its inputs in place.
                held[place] = held[place].clone()
            args, kwargs = pytree.tree_unflatten(held, shape)
            outputs, layout[:] = _flat(forward(*args, **kwargs))
            return outputs

        made = _Again.apply(run, within, *(values[i] for i in places))
        return _whole(made, layout)

    return again


def _flat(output) -> tuple[list[Tensor], list]:
    """A module's output as its tensors, and what puts them together again."""
    values, shape = pytree.tree_flatten(output)
    rest = [None if isinstance(v, Tensor) else v for v in values]
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
    return [values[i] for i in places], [rest, places, shape]


def _whole(tensors: tuple[Tensor, ...], layout: list):
    rest, places, shape = layout
    values = list(rest)
    for place, value in zip(places, tensors):
        values[place] = value
    return pytree.tree_unflatten(values, shape)


class _Again(torch.autograd.Function):
    """A module's tensors, computed without a graph, and with one when the gradient is asked for."""

    @staticmethod
    def forward(ctx, run: Callable, within: Within, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.run, ctx.within = run, within
        ctx.save_for_backward(*inputs)
        # No views: those that are one of several outputs may not be changed in place afterwards.
        made = [t.clone() if t._is_view() else t for t in run(*inputs)]
        ctx.mark_non_differentiable(*(t for t in made if not t.is_floating_point()))
        return tuple(made)

    @staticmethod
    def backward(ctx, *gradients: Tensor | None) -> tuple:
        inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad(), ctx.within():
            made = ctx.run(*inputs)
        asked = [(t, g) for t, g in zip(made, gradients) if t.requires_grad and g is not None]
        outputs, wanted = [t for t, _ in asked], [g for _, g in asked]
        return (None, None, *torch.autograd.grad(outputs, inputs, wanted, allow_unused=True))
