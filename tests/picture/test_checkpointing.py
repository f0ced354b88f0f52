"""Checkpointed modules compute the same with less kept, and are left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from aai.picture.checkpointing import checkpointing
from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt


@pytest.fixture
def model(make_parts):
    return DiffusersPictureModel(**vars(make_parts()))


def test_gradients_are_the_same_and_the_rest_is_computed_again():
    calls = []

    class Layer(nn.Linear):
        def forward(self, x, options=None):
            calls.append(dict(options or {}))
            return super().forward(x).tanh()

    layer, x = Layer(4, 4), torch.randn(2, 4, requires_grad=True)
    (plain,) = torch.autograd.grad(layer(x).sum(), x)
    calls.clear()
    options = {"block": 1}
    with checkpointing([layer]):
        out = layer(x, options)
        # ComfyUI goes on writing into its options; the second pass is to see what the first did.
        options["block"] = 2
        assert_close(torch.autograd.grad(out.sum(), x)[0], plain)
        with torch.no_grad():
            layer(x)
    assert calls == [{"block": 1}, {"block": 1}, {}]


def test_what_a_module_changes_in_place_is_changed_for_itself_alone():
    """As ComfyUI's Flux does, whose first block gets a picture that no gradient passes yet."""

    class Layer(nn.Module):
        def forward(self, image, text):
            text += 0.1 * image.sum() * text.exp()
            image += text.mean() ** 2
            return image[1:], text

    def loss(layers, text):
        image = torch.ones(4, dtype=torch.float64)
        for layer in layers:
            image, text = layer(image, text)
            text += 1
        return (image.sum() * text).sum()

    def in_copies():
        return torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda kept: kept)

    layers, start = [Layer(), Layer()], torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    with in_copies():
        (plain,) = torch.autograd.grad(loss(layers, start * 1), start)
    with checkpointing(layers, in_copies):
        with in_copies():
            value = loss(layers, start * 1)
        assert_close(torch.autograd.grad(value, start)[0], plain)
    step = 1e-6 * plain / plain.norm()
    with torch.no_grad():
        rise = loss(layers, start + step) - loss(layers, start - step)
    assert_close(rise / 2e-6, plain.norm(), rtol=1e-5, atol=0)


def test_a_modules_own_forward_comes_back_after_an_error():
    plain, patched = nn.Linear(2, 2), nn.Linear(2, 2)
    own = patched.forward = lambda x: x + 1
    with pytest.raises(KeyError), checkpointing([plain, patched]):
        raise KeyError("stopped")
    assert "forward" not in vars(plain) and patched.forward is own


def test_checkpointing_keeps_less(model):
    latents, cond = torch.randn(3, 4, 8, 8), model.encode_prompt(Prompt("rain"))
    cond.cross.requires_grad_()
    kept = {}
    for name in ("plain", "checkpointed"):
        kept[name] = 0

        def keep(tensor, name=name):
            kept[name] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            if name == "plain":
                model.denoising_loss(latents, cond, latents, torch.tensor([1, 2, 3]))
            else:
                with model.checkpointing():
                    model.denoising_loss(latents, cond, latents, torch.tensor([1, 2, 3]))
    assert kept["checkpointed"] < kept["plain"] / 2
