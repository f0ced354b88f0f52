"""Each family's own attention calls are told from all others."""

from __future__ import annotations

import pytest
import torch

CALLS = {
    "Z-Image": ["text", None, "joint", "joint"],
    "Lumina2": ["text", None, "joint", "joint"],
    "Omnigen2": ["text", None, "joint"],
    "Qwen-Image": ["joint", "joint"],
    "Flux.1": ["joint", "joint", "joint"],
    "Flux.2": ["joint", "joint", "joint"],
    "Flux.2 Klein": ["joint", "joint", "joint"],
    "Chroma": ["joint", "joint"],
    "SD3.5": ["joint", None],
    "HiDream": ["joint", "joint"],
    "AuraFlow": ["joint", "joint"],
    "HunyuanVideo": ["text", "text", "joint", "joint"],
    "Wan 2.x": ["own", "cross"] * 2,
    "LTX": ["own", "cross"] * 2,
    "Cosmos": ["own", "cross"],
    "Cosmos-Predict2": ["own", "cross"],
}


def test_its_calls_are_marked(tiny, pack, core):
    if tiny.name not in CALLS:
        pytest.skip(f"{tiny.name} has no calls of ours")
    from comfy.patcher_extension import WrappersMP

    transformer, seen = pack.part("nodes.comfy.transformer"), []

    def recorded(executor, x, t, c_concat, c_crossattn, control, transformer_options, **named):
        inner = executor.class_obj.diffusion_model
        mark = transformer.Mark()

        def override(function, *args, **rest):
            seen.append(mark.take())
            return function(*args, **rest)

        options = {**transformer_options, transformer.OVERRIDE: override}
        with transformer.marked(inner, transformer.attention_of(inner), mark):
            return executor(x, t, c_concat, c_crossattn, control, options, **named)

    model = tiny.model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", recorded)
    latent = {"samples": torch.zeros(1, *tiny.latents.shape[1:])}
    with torch.inference_mode():
        text = tiny.clip.encode_from_tokens_scheduled(tiny.clip.tokenize("a photo of rain"))
        core.common_ksampler(model, 7, 1, 1.0, "euler", "simple", text, text, latent)
    assert seen == CALLS[tiny.name]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.diffusion_model.modules())
