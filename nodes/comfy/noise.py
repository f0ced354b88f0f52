"""One noise for a source and its edited pictures, whatever a sampler draws it with."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import comfy.k_diffusion.sampling as k_diffusion
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def shared_noise(function: Callable, noise: Tensor, sigmas: Tensor, seed: int | None, rows: int) -> Callable:
    """The noise sampler that a k-diffusion sampler makes for itself, drawn once for every `rows` latents."""
    latents = torch.zeros_like(noise[::rows])
    if _is_brownian(function):
        # The samplers called *_gpu draw on the latents' device.
        on_cpu = not function.__name__.endswith("_gpu")
        draw = k_diffusion.BrownianTreeNoiseSampler(
            latents, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu
        )
    else:
        draw = k_diffusion.default_noise_sampler(latents, seed=seed)
    return lambda sigma, sigma_next: draw(sigma, sigma_next).repeat_interleave(rows, 0)


class SharedDraws(TorchFunctionMode):
    """Inside, noise for latents of groups of `rows` that is drawn straight from torch is drawn for one of
    each group, as it would be for a batch of these alone."""

    def __init__(self, shape: torch.Size, rows: int):
        super().__init__()
        self.shape, self.rows = shape, rows

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.randn_like and len(args[0]) == self.shape[0]:
            return function(args[0][:: self.rows], *args[1:], **kwargs).repeat_interleave(self.rows, 0)
        if function is torch.randn and args and args[0] == self.shape:
            size = (self.shape[0] // self.rows, *self.shape[1:])
            return function(size, *args[1:], **kwargs).repeat_interleave(self.rows, 0)
        return function(*args, **kwargs)


def draws_noise(function: Callable) -> bool:
    return "noise_sampler" in inspect.signature(inspect.unwrap(function)).parameters


def draws_by_itself(sampler, masked: bool) -> bool:
    """Whether a sampler draws noise that no noise sampler gives: churn (Karras et al. 2022), ddim's for what
    a mask keeps, or whatever a sampler that is not core's does."""
    if sampler.extra_options.get("s_churn") or (masked and sampler.inpaint_options.get("random")):
        return True
    function = inspect.unwrap(sampler.sampler_function)
    return not (draws_noise(function) or function.__module__.startswith("comfy."))


def _is_brownian(function: Callable) -> bool:
    """Whether a sampler's own noise is a Brownian tree's, which it may leave to another sampler to make."""
    names = getattr(inspect.unwrap(function), "__code__", _is_brownian.__code__).co_names
    called = (
        getattr(k_diffusion, n, None) for n in names if n.startswith("sample_") and n != function.__name__
    )
    return "BrownianTreeNoiseSampler" in names or any(_is_brownian(f) for f in called if callable(f))
