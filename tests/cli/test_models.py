"""The models and devices that commands name."""

from types import SimpleNamespace

import pytest
import torch

from aai.cli.models import device_of, load_model


@pytest.mark.parametrize("device", ["cuda:63", "meta", "toaster"])
@pytest.mark.parametrize(
    "command",
    [
        ("token", "rain.wav", "-o", "y.safetensors"),
        ("generate", "-o", "y.png"),
        ("edit", "--sound", "rain.wav", "--source", "a city", "--edited", "a *", "-o", "y.png"),
        ("invert", "pictures/0.png", "--prompt", "a city", "-o", "y.safetensors"),
        ("study", "adapter", "--events", "rain", "-o", "y"),
        ("study", "adapter", "--sounds", "pictures", "--library", "pictures", "-o", "y"),
    ],
    ids=lambda value: " ".join(value[:3]),
)
def test_a_device_that_is_not_here_gets_one_sentence(aai, command, device):
    code, out, err = aai(*command, "--device", device)
    assert code == 2 and not out
    assert f"no device '{device}'" in err and err.count("\n") == 1


def test_a_picture_model_is_moved_whole(monkeypatch):
    to, moved = torch.nn.Module.to, []
    monkeypatch.setattr(torch.nn.Module, "to", lambda m, *place: (moved.append((m, place)), to(m, *place))[1])
    model = load_model("soundworld", "cpu")
    there = {module for module, place in moved if place[0] == torch.device("cpu")}
    assert {model.unet, model.vae, *(tower.model for tower in model._text_encoders.values())} <= there


def test_a_picture_model_is_in_float16_on_a_gpu_alone(monkeypatch):
    def found(*given):
        model = load_model("soundworld", None, *given)
        towers = {next(t.model.parameters()).dtype for t in model._text_encoders.values()}
        assert towers == {model.dtype} and next(model.vae.parameters()).dtype == torch.float32
        return model.dtype

    assert found(None) == found() == torch.float32 and found("float16") == torch.float16
    monkeypatch.setattr("aai.cli.models.device_of", lambda name: torch.device("meta"))
    assert found(None) == torch.float16 and found("float32") == found() == torch.float32


def test_without_a_name_the_best_device_is_taken(monkeypatch):
    monkeypatch.delattr(torch, "accelerator", raising=False)
    for there, found in (((True, True), "cuda"), ((False, True), "mps"), ((False, False), "cpu")):
        for backend, is_there in zip((torch.cuda, torch.backends.mps), there):
            monkeypatch.setattr(backend, "is_available", lambda is_there=is_there: is_there)
        assert device_of(None) == torch.device(found)
    newer = SimpleNamespace(is_available=lambda: True, current_accelerator=lambda: torch.device("xpu"))
    monkeypatch.setattr(torch, "accelerator", newer, raising=False)
    assert device_of(None) == torch.device("xpu")
