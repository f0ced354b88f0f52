"""Training inside a node: gradients through models that ComfyUI holds for inference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import comfy.model_management
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import nn
from torch.overrides import TorchFunctionMode

from ...aai.embedding import CLIPS
from ...aai.errors import InputError
from ...aai.picture.checkpointing import checkpointing
from . import families
from .prediction import check_backward


class Training:
    """A context in which gradients flow through the patchers' models; afterwards they are as before.

    ComfyUI's executor runs in inference mode, whose tensors autograd refuses. So inference weights are cloned
    one by one, and cloned back at the end: never two copies of a model at a time. The patchers' models are
    loaded whole, their patches (LoRA) with them, and `room` bytes beside them are freed; where they do not
    fit beside each other, each when it is `take`n. `twins` are the patchers that were made for the training;
    they are unloaded at its end.
    """

    def __init__(self, patchers: list, room: int = 0, twins: Sequence = ()):
        self.patchers, self.room, self.twins = patchers, room, twins
        self.together = _fit(patchers, room)
        self.taken: object = None
        self.cloned: dict[tuple[int, str], tuple[dict, str]] = {}
        self.modes = ExitStack()

    def __enter__(self) -> Training:
        self.modes.enter_context(torch.inference_mode(False))
        self.modes.enter_context(torch.enable_grad())
        self.modes.enter_context(_core_trains())
        try:
            self.take_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def take_all(self) -> None:
        """Loads the models, where others have taken their place; all of them, where they fit."""
        self.taken = None
        if self.together:
            self._load(self.patchers)
        else:
            self.take(self.patchers[0])

    def take(self, patcher) -> None:
        """Loads one of the models before it computes, where they do not fit beside each other."""
        if not self.together and self.taken is not patcher:
            self._load([patcher])
            self.taken = patcher

    def _load(self, patchers: list) -> None:
        # An inference tensor that is moved outside inference mode becomes neither kind: autograd fails on it.
        with torch.inference_mode():
            comfy.model_management.load_models_gpu(
                list(patchers), memory_required=self.room, force_full_load=_fit(patchers, self.room)
            )
        for patcher in patchers:
            for tensors, name in _clone_inference_tensors(patcher.model):
                self.cloned[id(tensors), name] = (tensors, name)

    def __exit__(self, *_) -> None:
        with torch.inference_mode():
            for tensors, name in self.cloned.values():
                tensors[name] = _clone(tensors[name])
        self.cloned.clear()
        self.modes.close()
        if self.twins:
            loaded = comfy.model_management.current_loaded_models
            others = [m for m in loaded if not any(m.model is p for p in self.twins)]
            for device in {p.load_device for p in self.twins}:
                comfy.model_management.free_memory(1e30, device, keep_loaded=others)
        # The steps' cached memory goes back to the device: the sampler counts on it.
        comfy.model_management.soft_empty_cache()


LEAST = 2 * 2**30
"""Bytes beside the weights with which a step of small pictures, or with checkpointing, can do."""


def _fit(patchers: Sequence, room: int) -> bool:
    """Whether the patchers' models fit on their devices together, with what a step takes at the least. Main
    memory is asked of no one: a text encoder may stand there beside a card that is full."""
    sizes: dict[torch.device, int] = {}
    for patcher in patchers:
        if patcher.load_device.type != "cpu":
            sizes[patcher.load_device] = sizes.get(patcher.load_device, 0) + patcher.model_size()
    total = comfy.model_management.get_total_memory
    return all(size + min(room, LEAST) <= 0.95 * total(device) for device, size in sizes.items())


@contextmanager
def _core_trains() -> Iterator[None]:
    """Inside, core's transformers know that they are trained through, and change nothing in place."""
    before = getattr(comfy.model_management, "in_training", None)
    if before is None:
        # Older versions know no such thing, and need none.
        yield
        return
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


def check_trainable(model, clip) -> None:
    """Raises InputError for a MODEL or CLIP that gradients cannot pass, by its name."""
    inner = model.model
    check_backward(model)
    parts = [model, inner.diffusion_model, clip.patcher, clip.cond_stage_model]
    weights = [next(iter(part.parameters()), None) for part in (inner.diffusion_model, clip.cond_stage_model)]
    pack = families.engine(*parts, *weights)
    if pack is not None:
        raise InputError(
            f"These are {pack} weights, which have no backward pass: train the word with the same model in "
            "safetensors (bf16 or fp8); it then works with these, too."
        )
    if _is_compiled(model):
        raise InputError(
            "The model is compiled (torch.compile), and would be again at each step: connect it as it was "
            "before; the word then works with the compiled one, too."
        )


def _is_compiled(model) -> bool:
    patched = getattr(model, "object_patches", {}).get("diffusion_model", model.model.diffusion_model)
    wrappers = model.model_options.get("transformer_options", {}).get("wrappers", {})
    keys = [key for kind in wrappers.values() for key in kind]
    return hasattr(patched, "_orig_mod") or "torch.compile" in keys


BYTES_PER_POSITION = 400_000
"""A step's bytes for each position of a latent, above XL's 330,000 in float16 (`python -m bench memory`)."""


def room(latents: torch.Tensor, together: int) -> int:
    """Bytes that a step on `together` of the latents [N, C, h, w] takes beside the weights."""
    return BYTES_PER_POSITION * together * latents.shape[-2] * latents.shape[-1]


@contextmanager
def room_to_train() -> Iterator[torch.device]:
    """Where ComfyUI computes, with its own models out of the way, for a model of our own to train there."""
    comfy.model_management.unload_all_models()
    try:
        yield comfy.model_management.get_torch_device()
    finally:
        comfy.model_management.soft_empty_cache()


class WithoutOut(TorchFunctionMode):
    """Inside, sums and products are not written to an `out=`, which autograd refuses and core's language
    models give. They go on with what is returned, which is the same bit for bit."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.add, torch.mul, torch.clamp):
            kwargs.pop("out", None)
        return function(*args, **kwargs)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer: the members of its outermost lists of modules."""
    found = []
    for child in model.children():
        found += list(child) if isinstance(child, nn.ModuleList) else blocks(child)
    return found


@contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """Inside, what core's transformers do can be differentiated, though they change tensors in place."""
    with saved_copies(module), WithoutOut(), _own_outputs(module):
        yield


@contextmanager
def _own_outputs(module: nn.Module) -> Iterator[None]:
    """Inside, quantized layers give tensors of their own: where core's function carries the gradient past a
    product of few bits, it gives a view, which autograd lets nobody change."""

    def own(layer: nn.Module, given: tuple, made: torch.Tensor) -> torch.Tensor | None:
        return made.clone() if made.requires_grad and made._is_view() else None

    layers = [layer for layer in module.modules() if is_quantized(getattr(layer, "weight", None))]
    hooks = [layer.register_forward_hook(own) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def differentiable_text(text_model: nn.Module) -> Iterator[None]:
    """Inside, core's text encoders are differentiable. The blocks of those that are not CLIP run again in the
    backward pass: what they keep, their weights in the computing type among it, would not fit."""
    others = [m for k, m in text_model.named_children() if k not in CLIPS and hasattr(m, "transformer")]
    large = [block for tower in others for block in blocks(tower.transformer)]
    within = functools.partial(differentiable, text_model)
    with checkpointing(large, within), within() if others else saved_copies(text_model):
        yield


def saved_copies(module: nn.Module) -> AbstractContextManager:
    """Inside, autograd saves copies, so that `module` may change tensors in place, as ComfyUI's CLIP does.

    Its weights are not copied. PyTorch's `allow_mutation_on_saved_tensors` allows the same around a whole
    training step, and makes every operation in it slower.
    """
    weights = {p.untyped_storage().data_ptr() for p in module.parameters() if not is_quantized(p)}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        if is_quantized(saved) or saved.untyped_storage().data_ptr() in weights:
            return saved
        return saved.clone()

    return torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved)


def plain_attention(attention: Callable, *qkv, **options) -> torch.Tensor:
    """An attention override that is PyTorch's own: others may have no backward pass, or a slow one."""
    return attention_pytorch(*qkv, **{k: v for k, v in options.items() if k != "transformer_options"})


def without_dynamic_memory(holder):
    """A MODEL's or CLIP's twin whose layers use their own weights.

    With dynamic VRAM (ComfyUI 0.33 on a GPU) they use copies, loaded at each step into reused buffers, which
    autograd must not keep. The twin reads its checkpoint again.
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


def _clone_inference_tensors(module: nn.Module) -> list[tuple[dict, str]]:
    """Clones the parameters and buffers that autograd cannot keep; returns each one's place, a module's dict
    and its name there."""
    cloned = []
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, value in tensors.items():
                if value is not None and not _has_version(value):
                    tensors[name] = _clone(value)
                    cloned.append((tensors, name))
    return cloned


def _has_version(value: torch.Tensor) -> bool:
    """Whether autograd can keep a tensor: not an inference tensor, nor one that was moved to another device
    outside inference mode, though `is_inference` is False for that one."""
    if is_quantized(value):
        return not value.is_inference() and all(map(_has_version, _inner(value)[0].values()))
    if value.is_inference():
        return False
    try:
        return value._version >= 0
    except RuntimeError:
        return False


def is_quantized(value: torch.Tensor | None) -> bool:
    """Whether a tensor is core's own kind for weights in fp8 with scales, nvfp4 or int8: numbers and scales,
    without a memory of its own."""
    return hasattr(value, "__tensor_flatten__")


def _inner(value: torch.Tensor) -> tuple[dict[str, torch.Tensor], object]:
    """The tensors that a quantized one is made of, by their names, and what else it takes to make it."""
    names, context = value.__tensor_flatten__()
    return {name: getattr(value, name) for name in names}, context


def _clone(value: torch.Tensor) -> torch.Tensor:
    if is_quantized(value):
        inner, context = _inner(value)
        inner = {name: _clone(part) for name, part in inner.items()}
        copy = type(value).__tensor_unflatten__(inner, context, value.size(), value.stride())
    else:
        copy = value.detach().clone()
    return nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy
