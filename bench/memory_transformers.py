"""Bytes that a token's training needs on models of today, counted without a GPU or their weights: a picture
of 1024 pixels (for Wan, 512), batch 1, checkpointing, in bfloat16 and with weights kept in float8.

ComfyUI's own class of the published configuration stands on the meta device, which has shapes and no numbers.
Every storage that a forward and a backward pass allocate is counted until it is freed, and the most at a time
is the figure; attention counts as the fused kernels of a GPU keep it. The text encoder's pass comes at
another time (nodes/comfy/training.py); its weights, which then stand there instead, are a row of their own.
The ratio is to the smallest card of 12, 16 or 24 GiB that holds it (else, to 24), of which the system and
CUDA take one.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.families import load_pack
from bench.memory import fused_attention

CARDS, SYSTEM = (12, 16, 24), 1
"""GiB of cards, and what of each is not a program's."""


@dataclass(frozen=True)
class Published:
    """config: the class in comfy.supported_models, of the settings `unet`, as core detects them in the
    published file. latent: of the picture. text: shape of what the text encoder gives; pooled: the width of
    its pooled text, or 0. encoder: the text encoders' weights, by count."""

    config: str
    unet: dict
    latent: tuple[int, ...]
    text: tuple[int, int]
    encoder: dict[str, float]
    pooled: int = 0


FAMILIES = {
    "Z-Image": Published(
        "ZImage",
        dict(image_model="lumina2", patch_size=2, in_channels=16, dim=3840, cap_feat_dim=2560, n_layers=30,
             n_refiner_layers=2, qk_norm=True, n_heads=30, n_kv_heads=30, axes_dims=[32, 48, 48],
             axes_lens=[1536, 512, 512], rope_theta=256.0, ffn_dim_multiplier=8 / 3, multiple_of=256,
             z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32),
        (16, 128, 128), (64, 2560), {"Qwen3 4B": 4.02e9},
    ),
    "Flux.1": Published(
        "Flux",
        dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096,
             hidden_size=3072, mlp_ratio=4.0, num_heads=24, depth=19, depth_single_blocks=38, patch_size=2,
             axes_dim=[16, 56, 56], theta=10000, qkv_bias=True, guidance_embed=True, txt_ids_dims=[]),
        (16, 128, 128), (256, 4096), {"T5 XXL and CLIP L": 4.76e9 + 0.12e9}, pooled=768,
    ),
    "Qwen-Image": Published(
        "QwenImage",
        dict(image_model="qwen_image", in_channels=64, num_layers=60),
        (16, 1, 128, 128), (64, 3584), {"Qwen2.5-VL 7B": 7.62e9},
    ),
    "Wan 2.1 1.3B": Published(
        "WAN21_T2V",
        dict(image_model="wan2.1", model_type="t2v", dim=1536, ffn_dim=8960, text_dim=4096, num_heads=12,
             num_layers=30, in_dim=16, out_dim=16, freq_dim=256),
        (16, 1, 64, 64), (512, 4096), {"UMT5 XXL": 5.68e9},
    ),
    "Wan 2.x 14B": Published(
        "WAN21_T2V",
        dict(image_model="wan2.1", model_type="t2v", dim=5120, ffn_dim=13824, text_dim=4096, num_heads=40,
             num_layers=40, in_dim=16, out_dim=16, freq_dim=256),
        (16, 1, 64, 64), (512, 4096), {"UMT5 XXL": 5.68e9},
    ),
}  # fmt: skip
KEPT = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


def rows(measure) -> list[dict]:
    with contextlib.redirect_stdout(sys.stderr):
        part = load_pack()
        found = []
        for name, family in FAMILIES.items():
            for kept, dtype in KEPT.items():
                found.append(_row(f"{name}, {kept} weights", training_bytes(part, family, dtype)))
                found += [
                    _row(f"{name}, {kept}: {encoder}, weights", int(count * dtype.itemsize))
                    for encoder, count in family.encoder.items()
                ]
        return found


def _row(what: str, size: int) -> dict:
    needed = size / 2**30
    card = next((card for card in CARDS if needed <= card - SYSTEM), CARDS[-1])
    return {"what": what, "value": needed, "unit": "GiB", "ratio": needed / (card - SYSTEM), "card": card}


def training_bytes(part, family: Published, dtype: torch.dtype, device: str = "meta") -> int:
    """What a step of a token's training takes at its most, in bytes, its weights kept in `dtype`. On another
    device than "meta", by computing."""
    import comfy.supported_models

    training = part("nodes.comfy.training")
    checkpointing = part("aai.picture.checkpointing").checkpointing
    config = getattr(comfy.supported_models, family.config)(dict(family.unet))
    config.set_inference_dtype(dtype, None if dtype == torch.bfloat16 else torch.bfloat16)
    model = config.get_model({}, "", device=torch.device(device))
    inner = model.diffusion_model.requires_grad_(False)
    given = {"c_crossattn": torch.empty(1, *family.text, device=device).requires_grad_()}
    if family.pooled:
        given |= {
            "y": torch.empty(1, family.pooled, device=device),
            "guidance": torch.empty(1, device=device),
        }
    if family.unet["image_model"] == "lumina2":
        given["num_tokens"] = family.text[0]
    latent, sigma = torch.empty(1, *family.latent, device=device), torch.empty(1, device=device)
    with training._core_trains(), fused_attention(), Allocations() as allocated:
        allocated.hold(inner)
        with checkpointing(training.blocks(inner), lambda: differentiable(training, inner)):
            with differentiable(training, inner):
                options = {"optimized_attention_override": training.plain_attention}
                out = model.apply_model(latent, sigma, transformer_options=options, **given)
            out.float().square().mean().backward()
    return allocated.most


@contextlib.contextmanager
def differentiable(training, module: nn.Module) -> Iterator[None]:
    """The training's own of this name, which tells weights by their addresses: those here have none."""
    weights = {p.untyped_storage()._cdata for p in module.parameters()}

    def keep(saved: Tensor) -> Tensor:
        return saved if saved.untyped_storage()._cdata in weights else saved.clone()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved), training.WithoutOut():
        yield


@dataclass
class Allocations(TorchDispatchMode):
    """Inside, the bytes of every storage that is made, until it is freed; `most` is the most at a time."""

    now: int = 0
    most: int = 0
    seen: set[int] = field(default_factory=set)

    def __post_init__(self):
        super().__init__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(made):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return made

    def hold(self, module: nn.Module) -> None:
        """Counts a module's weights, which stay."""
        for tensor in (*module.parameters(), *module.buffers()):
            self._count(tensor.untyped_storage())

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size
