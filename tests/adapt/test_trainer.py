"""Validation, early stop, the norm, chunks, checkpointing, half precision, resumption, inpainting."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.testing import assert_close

from aai import token
from aai.adapt.settings import TrainSettings
from aai.adapt.train import train_token
from aai.adapt.trainer import TokenTrainer
from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.picture.preview import preview
from aai.prompt import Prompt


def vectors(model, f_a, images, **settings):
    return train_token(model, f_a, images, TrainSettings(**settings)).token.vectors["clip_l"]


def test_validation_is_the_loss_on_fixed_noise(model, f_a, images):
    result = train_token(model, f_a, images, TrainSettings(steps=10, rate=0.05, rho=None, validate=5))
    assert [step for step, _ in result.validations] == [0, 5, 10]
    noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    latents = model.encode_images(images)[torch.arange(8) % 3]
    cond = model.encode_prompt(Prompt("a photo of *", (result.token,)))
    with torch.no_grad():
        again = float(model.denoising_loss(latents, cond, noise, torch.arange(8) * 125 + 62))
    assert again == pytest.approx(min(loss for _, loss in result.validations), rel=1e-5)
    # Measuring changes nothing in the training.
    plain = train_token(model, f_a, images, TrainSettings(steps=10, rate=0.05, rho=None))
    assert plain.losses == result.losses


def test_training_stops_early_and_keeps_the_best(model, f_a, images):
    settings = TrainSettings(steps=40, rate=3.0, rho=None, validate=1, patience=3)
    result = train_token(model, f_a, images, settings)
    losses = [loss for _, loss in result.validations]
    best = losses.index(min(losses))
    assert len(result.losses) == best + 3 < 40
    assert "Stopped at step" in result.note or "lower the rate" in result.note
    if best:
        same = train_token(model, f_a, images, TrainSettings(steps=best, rate=3.0, rho=None)).token
        assert_close(result.token.vectors["clip_l"], same.vectors["clip_l"])


class Rising(DiffusersPictureModel):
    """Its loss grows with every step, as where a rate is too high."""

    def denoising_loss(self, *given):
        self.calls = getattr(self, "calls", 0) + 1
        return super().denoising_loss(*given) * self.calls


def test_a_loss_that_rises_is_named_and_the_best_token_kept(make_parts, f_a, images):
    result = train_token(
        Rising(**vars(make_parts())), f_a, images, TrainSettings(steps=40, rate=0.1, rho=None)
    )
    assert "rose from" in result.note and "lower the rate" in result.note
    early = train_token(Rising(**vars(make_parts())), f_a, images, TrainSettings(steps=9, rate=0.1, rho=None))
    assert_close(result.token.vectors["clip_l"], early.token.vectors["clip_l"])


@pytest.mark.parametrize("rho", [None, 0.4])
def test_a_pinned_word_has_its_length(model, f_a, images, rho):
    result = train_token(
        model, f_a, images, TrainSettings(steps=4, rate=0.2, norm="pinned", rho=rho, vectors=2)
    )
    s = model.text_encoders["clip_l"].mean_norm
    assert_close(result.token.vectors["clip_l"].norm(dim=1), torch.full((2,), s), rtol=1e-4, atol=0)
    lengths = result.token.f_adapter["clip_l"].norm(dim=1)
    assert rho is None or ((lengths <= rho * s * 1.0001).all() and (lengths > 0.39 * s).any())


def test_a_soft_norm_draws_the_word_back(model, f_a, images):
    s = model.text_encoders["clip_l"].mean_norm
    free, soft = (
        float(vectors(model, f_a, images, steps=6, rate=0.2, rho=None, norm=norm).norm())
        for norm in ("free", "soft")
    )
    assert s < soft < free


def test_chunks_and_checkpointing_give_the_same_token(model, f_a, images):
    whole = vectors(model, f_a, images, steps=3, batch=4)
    assert_close(vectors(model, f_a, images, steps=3, batch=4, chunk=3), whole, atol=1e-5, rtol=1e-4)
    again = vectors(model, f_a, images, steps=3, batch=4, checkpointing=True)
    assert_close(again, whole, atol=1e-6, rtol=1e-5)
    assert not any("forward" in vars(m) for m in model.unet.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_trains_towards_the_same_token(make_parts, f_a, images, dtype):
    settings = dict(steps=4, rate=0.02, rho=None, init=0.0)
    exact = vectors(DiffusersPictureModel(**vars(make_parts())), f_a, images, **settings)
    half = DiffusersPictureModel(**vars(make_parts())).to(dtype)
    found = vectors(half, f_a, images, **settings)
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    assert torch.cosine_similarity(found, exact).item() > 0.99


def test_a_stopped_run_goes_on_to_the_same_token(model, f_a, images, tmp_path):
    settings = TrainSettings(steps=9, rate=0.05, average=0.9, template="objects", norm="soft")
    whole = train_token(model, f_a, images, settings, "x")
    kept = []

    def callback(step, steps, loss):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_token(model, f_a, images, settings, "x", callback=callback, on_stop=kept.append)
    kept[0].token.save(tmp_path / "x.safetensors")
    rest = train_token(model, f_a, images, settings, "x", resume=token.load(tmp_path / "x.safetensors"))
    assert rest.losses == whole.losses[4:] and rest.token.provenance["steps"] == "9"
    assert torch.equal(rest.token.vectors["clip_l"], whole.token.vectors["clip_l"])
    with pytest.raises(InputError, match="9 steps behind it"):
        train_token(model, f_a, images, settings, "x", resume=rest.token)
    more = TrainSettings(steps=12, vectors=2)
    with pytest.raises(InputError, match="as many vectors"):
        train_token(model, f_a, images, more, "x", resume=rest.token)
    longer = TrainSettings(steps=12)
    with pytest.raises(InputError, match="trained for another sound"):
        train_token(model, -f_a, images, longer, "x", resume=rest.token)
    with pytest.raises(InputError, match="scale 'vocabulary'"):
        train_token(model, f_a, images, TrainSettings(steps=12, scale="raw"), "x", resume=rest.token)
    licensed = replace(rest.token, provenance={**rest.token.provenance, "licence": "CC-BY 4.0"})
    rounded = f_a * (1 + 1e-6)
    assert (
        train_token(model, rounded, images, longer, "x", resume=licensed).token.provenance["licence"]
        == "CC-BY 4.0"
    )


@pytest.mark.parametrize("steps", ["0", "4"])
def test_a_token_of_other_text_encoders_does_not_go_on(model, make_sdxl_parts, f_a, images, steps):
    xl = DiffusersPictureModel(**vars(make_sdxl_parts()))
    vectors = {key: torch.randn(1, width) for key, width in xl.widths.items()}
    scale = dict.fromkeys(vectors, 0.1)
    held = token.SoundToken("x", vectors, f_a, vectors, scale, provenance={"steps": steps})
    says = "'x' was trained for clip_l of 32, clip_g of 64; this model reads clip_l of 32: go on with"
    with pytest.raises(InputError, match=says):
        train_token(model, f_a, images, TrainSettings(steps=9), "x", resume=held)
    small = {"clip_l": vectors["clip_l"]}
    held = replace(held, vectors=small, f_adapter=small)
    with pytest.raises(InputError, match="for clip_l of 32; this model reads clip_l of 32, clip_g of 64"):
        TokenTrainer(xl, f_a, {}, torch.zeros(1, 4, 8, 8), TrainSettings(steps=9), "x", held)


def test_a_token_of_another_base_does_not_go_on(model, f_a, images):
    settings = TrainSettings(steps=1, rate=0.05)
    model.family = "SoundWorld"
    held = train_token(model, f_a, images, settings, "x").token
    more = replace(settings, steps=2)
    assert train_token(model, f_a, images, more, "x", resume=held).losses
    # An older version gave it no name.
    unnamed = replace(held, provenance={**held.provenance, "base": "a model that reads clip_l of 32"})
    assert train_token(model, f_a, images, more, "x", resume=unnamed).losses
    model.family = "Flux"
    says = "'x' was trained with SoundWorld that reads clip_l of 32, and this is Flux that reads"
    with pytest.raises(InputError, match=says):
        train_token(model, f_a, images, more, "x", resume=held)
    model.family = ""
    assert train_token(model, f_a, images, more, "x", resume=held).losses


def stopped_after(steps, model, f_a, images, settings, path):
    """The token of a run that is stopped after so many steps, from its file."""
    kept = []

    def callback(step, total, loss):
        if step == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_token(model, f_a, images, settings, "x", callback=callback, on_stop=kept.append)
    kept[0].token.save(path)
    return token.load(path)


@pytest.mark.parametrize("steps", [1, 3, 6, 7, 8])
def test_a_stopped_run_goes_on_with_what_it_measured(model, f_a, images, tmp_path, steps):
    settings = TrainSettings(steps=24, rate=0.3, rho=None, average=0.5, validate=2, patience=3, seed=9)
    whole = train_token(model, f_a, images, settings, "x")
    # The best are those of step 2, and after three measurements more it ends.
    assert min(whole.validations, key=lambda row: row[1])[0] == 2 and len(whole.losses) == 8
    held = stopped_after(steps, model, f_a, images, settings, tmp_path / "x.safetensors")
    # As if measured on other pictures, where nothing here comes near it.
    held = replace(held, measured={**held.measured, "best": 0.0})
    rest = train_token(model, f_a, images, settings, "x", resume=held)
    assert torch.equal(rest.token.vectors["clip_l"], whole.token.vectors["clip_l"])
    assert rest.losses == whole.losses[steps:]
    assert rest.validations == [row for row in whole.validations if row[0] >= steps]


def test_a_raw_token_of_a_sound_of_length_one_goes_on_with_it(model, f_a, images):
    settings = TrainSettings(steps=2, scale="raw")
    older = train_token(model, f_a / f_a.norm(), images, settings, "x").token
    more = replace(settings, steps=4)
    rest = train_token(model, 9 * f_a / f_a.norm(), images, more, "x", resume=older).token
    assert_close(rest.f_a, older.f_a)
    same = train_token(model, older.f_a, images, more, "x", resume=older).token
    assert_close(rest.vectors["clip_l"], same.vectors["clip_l"])


def test_a_token_without_measurements_goes_on(model, f_a, images, tmp_path):
    settings = TrainSettings(steps=6, rate=0.05, average=0.5, validate=4)
    stopped_after(3, model, f_a, images, settings, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
    notes = json.loads(metadata[token.METADATA])
    del notes["measured"], notes["momentum"]["clip_l best"], notes["momentum"]["clip_l average"]
    save_file(tensors, tmp_path / "old.safetensors", {token.METADATA: json.dumps(notes)})
    held = token.load(tmp_path / "old.safetensors")
    rest = train_token(model, f_a, images, settings, "x", resume=held)
    assert [step for step, _ in rest.validations] == [3, 4, 6] and len(rest.losses) == 3


def test_a_token_that_cannot_be_kept_hides_no_cancel(model, f_a, images):
    def full_disk(result):
        raise InputError("no space")

    def cancel(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_token(model, f_a, images, TrainSettings(steps=2), callback=cancel, on_stop=full_disk)


def test_too_little_memory_is_named(model, f_a, images, monkeypatch):
    kept, step = [], model.denoising_loss

    def fail(*given):
        if kept_steps:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        kept_steps.append(1)
        return step(*given)

    kept_steps = []
    monkeypatch.setattr(model, "denoising_loss", fail)
    with pytest.raises(InputError, match="Memory ran out at step 2: lower the chunk"):
        train_token(model, f_a, images, TrainSettings(steps=3), on_stop=kept.append)
    assert len(kept[0].losses) == 1


def test_watching_sees_the_token_so_far_and_changes_nothing(model, f_a, images):
    seen = []

    def watch(so_far):
        cond = model.encode_prompt(Prompt("a photo of *", (so_far.token,)))
        latent = preview(model, cond, model.encode_prompt(Prompt("")), torch.zeros(1, 4, 8, 8), steps=3)
        assert latent.shape == (1, 4, 8, 8) and torch.isfinite(latent).all()
        seen.append(len(so_far.losses))

    result = train_token(model, f_a, images, TrainSettings(steps=5), watch=watch, watch_every=2)
    assert seen == [2, 4, 5]
    assert result.losses == train_token(model, f_a, images, TrainSettings(steps=5)).losses


def test_a_preview_is_what_sampling_draws(model):
    cond, uncond = model.encode_prompt(Prompt("rain")), model.encode_prompt(Prompt(""))
    # 4 of 1000 timesteps are whole ones, where both schedules are the same.
    whole = model.sample(cond, uncond, seeds=[3], steps=4, guidance=5.0)
    assert_close(preview(model, cond, uncond, whole, seed=3, steps=4), whole, atol=1e-3, rtol=1e-3)


def test_templates_are_drawn_at_random(model, f_a, images, monkeypatch):
    given, encode = [], model.encode_prompt
    monkeypatch.setattr(model, "encode_prompt", lambda p, *v: (given.append(p.text), encode(p, *v))[1])
    train_token(
        model, f_a, images, TrainSettings(steps=12, batch=1, template="a photo of *\nthe *, at night")
    )
    assert set(given) == {"a photo of *", "the *, at night"}
    with pytest.raises(InputError, match="'the night' has no"):
        train_token(model, f_a, images, TrainSettings(template="a photo of *\nthe night"))


def test_one_picture_or_two_hundred(model, f_a):
    for count in (1, 200):
        result = train_token(model, f_a, torch.rand(count, 3, 16, 16), TrainSettings(steps=1))
        assert result.token.provenance["references"] == str(count)


def test_an_inpainting_unet_reads_a_whole_mask(make_parts, f_a, images):
    from diffusers import UNet2DConditionModel

    parts = make_parts()
    parts.unet = UNet2DConditionModel(**{**parts.unet.config, "in_channels": 9})
    model, seen = DiffusersPictureModel(**vars(parts)), []
    parts.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    assert len(train_token(model, f_a, images, TrainSettings(steps=2)).losses) == 2
    assert (seen[0][:, 4] == 1).all() and seen[0].shape[1] == 9
    assert seen[0][0, 5:, 0, 0].tolist() == pytest.approx([0.8223, -0.6876, 0.6364, 0.1380])
    with pytest.raises(InputError, match="8 channels"):
        parts.unet = UNet2DConditionModel(**{**parts.unet.config, "in_channels": 8})
        DiffusersPictureModel(**vars(parts))
