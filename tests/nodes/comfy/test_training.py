"""Gradients through what ComfyUI holds for inference."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def training(pack):
    return pack.part("nodes.comfy.training")


@pytest.mark.parametrize("moved_before", [False, True])
def test_weights_that_are_moved_to_train_on_can_be_trained_on(pack, comfy, monkeypatch, moved_before):
    """A move to another type takes the way of a move to a GPU: it puts other data into the parameter."""
    import comfy.model_management as management

    with torch.inference_mode():
        module = torch.nn.Linear(4, 4).requires_grad_(False)
    if moved_before:
        module.to(torch.float64)
    load = lambda patchers, **_: [p.model.to(torch.float64) for p in patchers]  # noqa: E731
    monkeypatch.setattr(management, "load_models_gpu", load)
    training = pack.part("nodes.comfy.training").Training
    with torch.inference_mode(), training([SimpleNamespace(model=module, load_device=torch.device("cpu"))]):
        x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(module(x).square().sum(), x)
        assert gradient.abs().sum() > 0
    assert all(p.is_inference() for p in module.parameters())


def test_inside_it_autograd_works_and_afterwards_inference_goes_on(training, small):
    with torch.inference_mode():
        with training.Training([small.model]):
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert not any(p.is_inference() for p in small.model.model.diffusion_model.parameters())
        assert torch.is_inference_mode_enabled()
    assert all(p.is_inference() for p in small.model.model.diffusion_model.parameters())


@pytest.mark.parametrize(("beside", "whole"), [("cpu", True), ("cuda", False)])
def test_a_text_encoder_in_main_memory_takes_no_room_on_the_card(training, monkeypatch, beside, whole):
    import comfy.model_management as management

    asked = []
    monkeypatch.setattr(management, "get_total_memory", lambda device: 12 << 30)
    monkeypatch.setattr(
        management,
        "load_models_gpu",
        lambda patchers, force_full_load, **_: asked.append((len(patchers), force_full_load)),
    )

    def patcher(size, device):
        return SimpleNamespace(
            model=torch.nn.Linear(1, 1), load_device=torch.device(device), model_size=lambda: size << 30
        )

    with training.Training([patcher(8, "cuda"), patcher(9, beside)]):
        assert asked.pop() == ((2, True) if whole else (1, True))
    # A model that its card does not hold is never asked for whole, wherever the text encoder stands.
    with training.Training([patcher(22, "cuda"), patcher(9, beside)]):
        assert asked.pop() == (1, False)
    with training.Training([patcher(22, "cpu"), patcher(9, "cpu")]):
        assert asked.pop() == (2, True)


def test_room_grows_with_the_pictures_that_are_trained_on_together(training):
    latents = torch.zeros(9, 4, 64, 32)
    one = training.room(latents, 1)
    assert training.room(latents, 2) == 2 * one == 2 * 64 * 32 * training.BYTES_PER_POSITION


def test_tensors_that_a_module_changes_in_place_keep_their_gradient(training):
    module, x = torch.nn.Linear(2, 2, bias=False), torch.ones(1, 2, requires_grad=True)
    with training.saved_copies(module):
        y = module(x).exp()
        loss = y.sum()
    y.data.zero_()
    (gradient,) = torch.autograd.grad(loss, x)
    expected = (module.weight * module.weight.sum(1).exp()[:, None]).sum(0, keepdim=True)
    torch.testing.assert_close(gradient, expected)


def test_a_model_of_its_own_weights_is_its_own_twin(training, small):
    if getattr(small.model, "is_dynamic", lambda: False)():
        pytest.skip("this ComfyUI's models are dynamic")
    assert training.without_dynamic_memory(small.model) is small.model
    assert training.without_dynamic_memory(small.clip) is small.clip


def test_plain_attention_is_pytorchs(training):
    q, k, v = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    found = training.plain_attention(None, q, k, v, 2, transformer_options={"patches": {}})
    heads = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, expected)
