"""Bytes that a token's training needs on Stable Diffusion 1.5 at 512 pixels and XL at 1024, counted without a
GPU.

The U-Net of diffusers' published configuration stands on the meta device, which has shapes and no numbers, in
float16. What autograd keeps for the backward pass is counted as it is saved, each storage once, weights left
out; attention counts as the fused kernels of a GPU keep it (q, k, v, the result and a number a row). With
checkpointing, what the blocks are given is kept, and the largest block is computed again. The sum: weights of
U-Net and text encoders, what is kept, and twice the largest tensor for work in hand. The autoencoder is not
there any more; ComfyUI moves it out once the latents are encoded. What the text encoders keep comes when the
U-Net's is gone. The ratio is to 6 GiB for Stable Diffusion 1.5, 12 for XL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEXT_ENCODERS = {"SD1.5": 123_060_480, "SDXL": 123_060_480 + 694_659_840}
LIMITS = {"SD1.5": 6, "SDXL": 12}
SDXL = dict(
    sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2, cross_attention_dim=2048,
    attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)  # fmt: skip


def rows(measure) -> list[dict]:
    found = []
    for name in ("SD1.5", "SDXL"):
        for checkpointed in (False, True):
            size = training_bytes(name, checkpointed)
            found.append(
                {
                    "what": f"{name}, batch 1, float16{', checkpointing' if checkpointed else ''}",
                    "value": size / 2**30,
                    "unit": "GiB",
                    "ratio": size / 2**30 / LIMITS[name],
                }
            )
    return found


def training_bytes(family: str, checkpointed: bool, batch: int = 1) -> int:
    """What a step of training takes at its most, in bytes."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    config = SDXL if family == "SDXL" else dict(sample_size=64, cross_attention_dim=768)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config).half().eval().requires_grad_(False)
        latents = torch.empty(batch, 4, unet.config.sample_size, unet.config.sample_size, dtype=torch.float16)
        context = torch.empty(batch, 77, unet.config.cross_attention_dim, dtype=torch.float16)
        pooled = torch.empty(batch, 1280, dtype=torch.float16)
        sizes = torch.empty(batch, 6, dtype=torch.float16)
        time = torch.empty(batch, dtype=torch.int64)
    added = {"text_embeds": pooled.requires_grad_(), "time_ids": sizes} if family == "SDXL" else None
    blocks = [m for m in unet.modules() if isinstance(m, (ResnetBlock2D, Transformer2DModel))]
    with counting(unet, blocks) as ledger:
        unet(latents, time, encoder_hidden_states=context.requires_grad_(), added_cond_kwargs=added)
    weights = 2 * (sum(p.numel() for p in unet.parameters()) + TEXT_ENCODERS[family])
    return weights + (ledger.checkpointed() if checkpointed else ledger.whole()) + 2 * ledger.largest


@dataclass
class Ledger:
    """Bytes kept: inside each block, outside of all, and those that the blocks are given."""

    inside: dict[int, int] = field(default_factory=dict)
    outside: int = 0
    given: int = 0
    largest: int = 0
    seen: dict[int, object] = field(default_factory=dict)
    block: int | None = None

    def whole(self) -> int:
        return self.outside + sum(self.inside.values())

    def checkpointed(self) -> int:
        return self.outside + self.given + max(self.inside.values())

    def save(self, kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        if storage._cdata not in self.seen:
            # Held, so that no later storage takes its address.
            self.seen[storage._cdata] = storage
            size = storage.nbytes()
            self.largest = max(self.largest, size)
            if self.block is None:
                self.outside += size
            else:
                self.inside[self.block] = self.inside.get(self.block, 0) + size
        return kept


@contextmanager
def counting(model: nn.Module, blocks: list[nn.Module]) -> Iterator[Ledger]:
    ledger = Ledger()
    for parameter in model.parameters():
        ledger.seen[parameter.untyped_storage()._cdata] = parameter
    hooks = []
    for block in blocks:

        def enter(module, args, kwargs):
            ledger.block = id(module)
            held = [a for a in args if isinstance(a, Tensor)]
            ledger.given += sum(a.untyped_storage().nbytes() for a in held if a.ndim == 4)

        def leave(module, args, output):
            ledger.block = None

        hooks += [
            block.register_forward_pre_hook(enter, with_kwargs=True),
            block.register_forward_hook(leave),
        ]
    try:
        with fused_attention(), torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda kept: kept):
            yield ledger
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def fused_attention() -> Iterator[None]:
    """Inside, PyTorch's attention keeps what a GPU's fused kernels do."""
    plain = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = lambda q, k, v, *_, **__: Fused.apply(q, k, v)
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


class Fused(torch.autograd.Function):
    """Attention as its fused kernels keep it: its numbers are of no account."""

    @staticmethod
    def forward(ctx, q, k, v):
        out, rows = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, rows)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(kept) for kept in ctx.saved_tensors[:3])
