"""Eq. 6's gradients in a prompt's words, with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..optim import LossScale
from ..picture.model import Conditioning


class Diverged(InputError):
    """The loss or its gradients are not finite any more."""


def out_of_memory(step: int) -> InputError:
    """What to say of memory that ran out at a step, counted from 1."""
    return InputError(
        f"Memory ran out at step {step}: lower the chunk or the batch, turn checkpointing on, or take "
        "smaller pictures."
    )


def word_gradients(
    encode: Callable[[], Conditioning],
    losses: Callable[[Conditioning], Iterable[tuple[float, Tensor]]],
    words: Sequence[Tensor],
    scale: LossScale,
    step: int,
) -> tuple[float, list[Tensor]]:
    """The loss of a step (counted from 1), and its gradients in `words`.

    `encode()` gives the prompt's conditioning, differentiable in them; `losses(conditioning)` gives (share,
    loss) of one part of the batch after the other. Raises Diverged where either is no number.
    """
    # Backward in two parts: the U-Net's graph is freed after each chunk. The text encoder's is built
    # afterwards, as it may hold all its weights, cast to its computing type: not beside the U-Net's.
    with torch.no_grad():
        cond = encode()
    cut = cond.leaves()
    wanted = cut.floats
    while True:
        total, sums = 0.0, [torch.zeros_like(v, dtype=torch.float32) for v in wanted]
        for share, loss in losses(cut):
            total += float(loss.detach()) * share
            gradients = torch.autograd.grad(loss * (share * scale.value), wanted, allow_unused=True)
            for total_gradient, gradient in zip(sums, gradients):
                if gradient is not None:
                    total_gradient += gradient.float()
        if not total < torch.inf:
            raise Diverged(f"The training diverged at step {step}: lower the rate or set a rho.")
        cond = encode()
        pairs = [(v, s.to(v)) for v, s in zip(cond.floats, sums) if v.requires_grad]
        # A word that an encoder cuts off, as CLIP does behind its 77 places, stays what it is there.
        found = (
            torch.autograd.grad([v for v, _ in pairs], words, [s for _, s in pairs], allow_unused=True)
            if pairs
            else [None] * len(words)
        )
        if all(gradient is None for gradient in found):
            raise InputError(
                "No text encoder reads as far as the sound in the training prompt: take a shorter template."
            )
        found = [torch.zeros_like(w) if g is None else g for w, g in zip(words, found)]
        if not scale.overflows(found):
            return total, [gradient / scale.value for gradient in found]
        if scale.value < 1:
            raise Diverged(
                f"The training diverged at step {step}, its gradients are no numbers: lower the rate, or "
                "load the model in bfloat16 or float32."
            )
