"""Training inside a node: gradients through models that ComfyUI holds for inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import comfy.model_management
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import nn


@contextmanager
def differentiable(*patchers) -> Iterator[None]:
    """Inside, gradients flow through the patchers' models; outside, all is as it was.

    ComfyUI's executor runs in inference mode, whose tensors autograd refuses. So inference weights are cloned
    one by one, and cloned back at the end: never two copies of a model at a time. The patchers' models are on
    their device whole, and stay there.
    """
    with torch.inference_mode(False), torch.enable_grad():
        comfy.model_management.load_models_gpu(list(patchers), force_full_load=True)
        renewed: list[tuple[dict, str]] = []
        try:
            for patcher in patchers:
                renewed += _renew(patcher.model)
            yield
        finally:
            with torch.inference_mode():
                for held, name in renewed:
                    held[name] = _clone(held[name])


@contextmanager
def room_to_train() -> Iterator[torch.device]:
    """Where ComfyUI computes, with its own models out of the way, for a model of our own to train there."""
    comfy.model_management.unload_all_models()
    try:
        yield comfy.model_management.get_torch_device()
    finally:
        comfy.model_management.soft_empty_cache()


def saved_copies(module: nn.Module) -> AbstractContextManager:
    """Inside, autograd keeps copies, so that `module` may change tensors in place, as ComfyUI's CLIP does.

    Its weights are not copied. PyTorch's `allow_mutation_on_saved_tensors` allows the same around a whole
    training step, and makes every operation in it slower.
    """
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        return saved if saved.untyped_storage().data_ptr() in weights else saved.clone()

    return torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved)


def plain_attention(attention: Callable, *qkv, **options) -> torch.Tensor:
    """An attention override that is PyTorch's own: others may have no gradient, or a slow one."""
    return attention_pytorch(*qkv, **{k: v for k, v in options.items() if k != "transformer_options"})


def without_dynamic_memory(holder):
    """A MODEL's or CLIP's twin whose layers use their own weights.

    With dynamic VRAM (ComfyUI 0.33 on a GPU) they use others, loaded at each step into buffers that are used
    again, which autograd must not keep. The twin reads its checkpoint again.
    """
    patcher = getattr(holder, "patcher", holder)
    is_dynamic = getattr(patcher, "is_dynamic", None)
    if is_dynamic is None or not is_dynamic():
        return holder
    if holder is patcher:
        return patcher.clone(disable_dynamic=True)
    twin = holder.clone(disable_dynamic=True)
    twin.cond_stage_model = twin.patcher.model
    return twin


def _renew(module: nn.Module) -> list[tuple[dict, str]]:
    renewed = []
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None and value.is_inference():
                    held[name] = _clone(value)
                    renewed.append((held, name))
    return renewed


def _clone(value: torch.Tensor) -> torch.Tensor:
    copy = value.detach().clone()
    return nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy
