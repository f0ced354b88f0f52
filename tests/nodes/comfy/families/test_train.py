"""A word is trained through every family's own text encoders and transformer, which stay as they were."""

from __future__ import annotations

import gc
import os
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from tests.weights import fingerprint


@pytest.fixture
def train(tiny, pack, picture, table):
    """train(**settings) -> a TrainResult; on_stop and callback reach the training."""

    def run(callback=None, on_stop=None, checkpointing=False, **changes):
        settings = pack.part("aai.adapt.settings").TrainSettings(
            **{**dict(steps=3, batch=2, seed=3, checkpointing=checkpointing), **changes}
        )
        with torch.inference_mode(), picture.training() as trainable:
            return pack.part("aai.adapt.train").train_token(
                trainable, table[1][0] + 0.1 * table[1][1], tiny.latents, settings, "rain",
                encoded=True, table=table, callback=callback, on_stop=on_stop,
            )  # fmt: skip

    return run


def test_twenty_steps_lower_the_loss_and_change_nothing_else(tiny, train, pack, tmp_path):
    modules = tiny.model.model.diffusion_model, tiny.clip.cond_stage_model
    before = fingerprint(*modules)
    result = train(steps=20, batch=8, validate=20, rho=None)
    (_, first), (_, last) = result.validations
    assert last < first
    assert fingerprint(*modules) == before
    assert all(p.is_inference() for module in modules for p in module.parameters())
    result.token.save(tmp_path / "rain.safetensors")
    read = pack.part("aai.token").load(tmp_path / "rain.safetensors")
    assert {k: v.shape[1] for k, v in read.vectors.items()} == tiny.widths
    assert all(torch.equal(read.vectors[k], v) for k, v in result.token.vectors.items())


def test_the_same_seed_is_the_same_token_and_a_cancel_keeps_it(train, pack, tmp_path):
    first, other = train(steps=2), train(steps=2, seed=4)
    kept = []

    def cancel(step, steps, loss):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(steps=9, callback=cancel, on_stop=kept.append)
    (stopped,) = kept
    stopped.token.save(tmp_path / "half.safetensors")
    half = pack.part("aai.token").load(tmp_path / "half.safetensors")
    assert half.provenance["steps"] == "2"
    for key, vectors in first.token.vectors.items():
        assert torch.equal(half.vectors[key], vectors)
        assert not torch.equal(other.token.vectors[key], vectors)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_its_gradient_is_the_slope_of_the_loss(tiny, picture, pack, checkpointing):
    """However a family changes its tensors in place."""
    generator = torch.Generator().manual_seed(1)
    info = picture.text_encoders
    vectors = {
        k: torch.randn(1, w, generator=generator) * info[k].mean_norm / w**0.5 for k, w in tiny.widths.items()
    }
    token = pack.part("aai.token").SoundToken("rain", vectors)
    prompt, t = pack.part("aai.prompt").Prompt("a photo of *", (token,)), torch.tensor([700])
    noise = torch.randn(1, *tiny.latents.shape[1:], generator=generator)

    with torch.inference_mode(), picture.training() as model:
        given = {k: v.clone().requires_grad_() for k, v in vectors.items()}

        def loss(shift=0.0, slopes=None):
            moved = {k: v if slopes is None else v + shift * slopes[k] for k, v in given.items()}
            cond = model.encode_prompt(prompt, {"rain": moved})
            return model.denoising_loss(tiny.latents[:1], cond, noise, t)

        if checkpointing:
            with model.checkpointing():
                gradients = torch.autograd.grad(loss(), list(given.values()))
        else:
            gradients = torch.autograd.grad(loss(), list(given.values()))
        size = torch.cat([g.flatten() for g in gradients]).norm()
        assert size > 0
        slopes = {k: g / size for k, g in zip(given, gradients)}
        reach = 0.004 * max(info[k].mean_norm for k in given)
        with torch.no_grad():
            rise = float(loss(reach, slopes)) - float(loss(-reach, slopes))
    assert rise / (2 * reach) == pytest.approx(float(size), rel=0.1, abs=2e-6 / reach)


def test_five_runs_leave_memory_where_it_was(tiny, train):
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("this system does not say how much memory a process holds")
    sizes = []
    for i in range(6):
        train(steps=1, checkpointing=bool(i % 2))
        gc.collect()
        with open("/proc/self/statm", encoding="utf-8") as file:
            sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    # the heap may grow once, by a large piece; what is leaked grows with every run
    growth = sorted(later - earlier for earlier, later in pairwise(sizes))
    assert sum(growth[:-1]) < 60, sizes


def test_a_quick_picture_is_drawn_while_it_trains(tiny, picture, pack):
    token = pack.part("aai.token").SoundToken("rain", {k: torch.randn(1, w) for k, w in tiny.widths.items()})
    prompt = pack.part("aai.prompt").Prompt
    with torch.inference_mode(), picture.training() as model:
        cond, uncond = model.encode_prompt(prompt("*", (token,))), model.encode_prompt(prompt(""))
        drawn = pack.part("aai.picture.preview").preview(model, cond, uncond, tiny.latents, steps=2)
    assert drawn.shape == (1, *tiny.latents.shape[1:]) and torch.isfinite(drawn).all()
    assert_close(drawn.std(), drawn.std().clamp(0.05, 50))
