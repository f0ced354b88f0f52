"""bfloat16 beside float32: which devices have it, and autocast to it."""

from __future__ import annotations

import contextlib

import torch

from .errors import InputError


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 by itself. One that does not is slower in it
    than in float32, an x86 processor without AVX-512 twenty times."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type in ("mps", "xpu")


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager:
    """Autocast to bfloat16, or nothing: some devices (DirectML) have no autocast to be switched off. Raises
    InputError for bfloat16 on one of these."""
    if not bf16:
        return contextlib.nullcontext()
    try:
        return torch.autocast(device.type, torch.bfloat16)
    except (AssertionError, RuntimeError) as error:
        raise InputError(f"'{device.type}' devices have no bfloat16 training: leave bf16 out.") from error
