"""SoundWorld's flow transformer through ComfyUI and through diffusers: the same weights, the same numbers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture(scope="module")
def both(pack, small):
    """The architecture with random weights: `ours` through diffusers, `theirs` through ComfyUI."""
    soundworld, loaders = pack.part("nodes.comfy.soundworld"), pack.part("aai.soundworld.loaders")
    models = pack.part("aai.soundworld.models")
    torch.manual_seed(4)
    transformer = models.build_flow()
    with torch.no_grad():
        # diffusers begins with a last layer that is small, and biases that are 0.
        for parameter in transformer.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    with torch.inference_mode():
        model = soundworld.build_flow_model(transformer.state_dict())
        clip = soundworld.build_clip(
            small.tower.state_dict(), Path(small.tokenizer.name_or_path), None, models.TEXT_PLACES
        )
    picture = pack.part("nodes.comfy.picture").ComfyPictureModel(model, clip, small.vae, scheduler="simple")
    ours = loaders.flow_model(transformer, small.tower, small.tokenizer, small.autoencoder)
    return SimpleNamespace(ours=ours, theirs=picture, transformer=transformer, model=model, clip=clip)


def test_prompts_take_24_places_and_longer_ones_go_on(both, pack, make_token):
    Prompt, rain = pack.part("aai.prompt").Prompt, make_token(rows=2)
    for text, length in (("a city under *", 24), ("rain and fire " * 14 + "*", 46), ("", 24)):
        prompt = Prompt(text, (rain,) if "*" in text else ())
        with torch.inference_mode():
            ours, theirs = both.ours.encode_prompt(prompt), both.theirs.encode_prompt(prompt)
        assert ours.token_ids == theirs.token_ids and ours.positions == theirs.positions
        assert ours.cross.shape == theirs.cross.shape == (1, length, 192)
        assert_close(ours.cross, theirs.cross, atol=1e-4, rtol=0)
    # Core's weights, and prompts of several chunks.
    with torch.inference_mode():
        for text, length in (("a (city:1.3) under rain", 24), ("rain " * 100, 154)):
            cross, _ = both.clip.encode_from_tokens(both.clip.tokenize(text), return_pooled=True)
            assert cross.shape == (1, length, 192) and torch.isfinite(cross).all()


def test_a_weight_in_the_prompt_is_measured_as_core_reads_it(both, pack):
    words = pack.part("aai.soundworld.evaluate.words")
    with torch.inference_mode():
        cond, _ = words.in_the_prompt(both.ours, "a city with fire", "fire")
        for row, scale in zip(cond.cross, words.SCALES):
            tokens = both.clip.tokenize(f"a city with (fire:{scale:g})")
            cross, _ = both.clip.encode_from_tokens(tokens, return_pooled=True)
            assert_close(row[None], cross, atol=1e-4, rtol=0)
    assert (cond.cross[0] - cond.cross[-1]).abs().max() > 0.1


def test_the_tokens_vector_is_what_the_encoder_sees_at_its_place(both, pack, make_token):
    prompt, rain = pack.part("aai.prompt").Prompt, make_token(rows=2)
    seen = []

    def look(module, given, named):
        seen.append(named["embeds"][0].clone())

    tower = both.clip.cond_stage_model.clip_l.transformer
    hook = tower.register_forward_pre_hook(look, with_kwargs=True)
    with torch.inference_mode():
        cond = both.theirs.encode_prompt(prompt("a city under *", (rain,)))
    hook.remove()
    first, second = cond.positions["rain"]
    assert second == first + 1 and len(seen[0]) == 24
    assert_close(seen[0][first : second + 1], rain.vectors["clip_l"], atol=1e-6, rtol=0)


def test_the_transformer_is_diffusers(both):
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(2, *shape, generator=generator) for shape in ((32, 16, 12), (24, 192)))
    s = torch.tensor([0.2, 0.9])
    with torch.inference_mode():
        wanted = both.ours.velocity.predict(x, s, context, None)
        found = both.model.model.diffusion_model(x, s, context, y=torch.zeros(2, 1))
    assert wanted.std() > 0.1
    assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_one_it_was_trained_with(both, pack):
    """`aai.soundworld.build.denoiser.flow_loss`, at the times that it drew."""
    packing = pack.part("aai.picture.packing")
    latents, noise = torch.randn(2, 2, 32, 16, 16, generator=torch.Generator().manual_seed(2))
    cond = both.ours.encode_prompt(pack.part("aai.prompt").Prompt("a photo of a dog"))
    t = torch.tensor([99, 800])
    s = ((t + 0.5) / 1000)[:, None, None, None]
    predicted = both.transformer(
        hidden_states=packing.packed(s * noise + (1 - s) * latents),
        timestep=s.flatten(),
        encoder_hidden_states=cond.cross.expand(2, -1, -1),
        pooled_projections=torch.zeros(2, 1),
        img_ids=packing.place_ids(16, 16),
        txt_ids=torch.zeros(24, 3),
    ).sample
    wanted = (predicted - packing.packed(noise - latents)).square().mean()
    assert_close(both.ours.denoising_loss(latents, cond, noise, t), wanted, rtol=1e-5, atol=1e-6)


def test_loss_and_gradient_are_the_same_in_both(both, pack, make_token):
    prompt = pack.part("aai.prompt").Prompt("a photo of *", (make_token(),))
    latents, noise = torch.randn(2, 2, 32, 16, 16, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([120, 800])

    def gradient(model):
        vectors = prompt.tokens[0].vectors["clip_l"].clone().requires_grad_()
        cond = model.encode_prompt(prompt, {"rain": {"clip_l": vectors}})
        loss = model.denoising_loss(latents, cond, noise, t)
        return loss.detach(), torch.autograd.grad(loss, vectors)[0]

    found, ours = gradient(both.ours)
    with torch.inference_mode(), both.theirs.training() as trainable:
        wanted, theirs = gradient(trainable)
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)
    assert theirs.norm() > 0 and (ours - theirs).norm() <= 1e-3 * theirs.norm()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_picture_is_the_same_in_both(both, pack, make_token, guidance):
    Prompt, rain = pack.part("aai.prompt").Prompt, make_token()
    # Prompts of unequal length are not stretched to each other's.
    texts = ("a city under * " + "and rain " * 14, "night")
    drawn = []
    for model in (both.ours, both.theirs):
        with torch.inference_mode():
            cond, uncond = (model.encode_prompt(Prompt(t, (rain,) if "*" in t else ())) for t in texts)
            latents = model.sample(cond, uncond, seeds=[3, 8], steps=7, guidance=guidance, height=96)
            drawn.append(model.decode(latents))
    assert drawn[0].shape == drawn[1].shape == (2, 3, 96, 128)
    assert 0.02 < drawn[0].std() and (drawn[0] - drawn[1]).abs().max() <= 2 / 255


def test_core_samples_it_as_any_model(both, core):
    with torch.inference_mode():
        positive, negative = (core.CLIPTextEncode().encode(both.clip, text)[0] for text in ("rain", ""))
        latent = {"samples": torch.zeros(1, 4, 16, 16)}
        (made,) = core.common_ksampler(
            both.model, 3, 3, 3.0, "dpmpp_2m", "normal", positive, negative, latent
        )  # fmt: skip
    assert made["samples"].shape == (1, 32, 16, 16) and torch.isfinite(made["samples"]).all()


def test_a_flow_model_inverts_no_picture(both, run, pack):
    with pytest.raises(pack.part("aai.errors").InputError, match="take Flow Edit"):
        run("AAI_InvertImage", model=both.model, clip=both.clip, vae=None, image=torch.rand(1, 64, 64, 3),
            prompt="a city", steps=2, null_text=False, guidance=4.0)  # fmt: skip


def test_it_is_loaded_by_its_name_from_a_file(both, pack, tmp_path, monkeypatch, run):
    """As the node does it; in the keys and the type of the shipped weights."""
    loaders, soundworld = pack.part("aai.soundworld.loaders"), pack.part("nodes.comfy.soundworld")
    folder = shutil.copytree(loaders.WEIGHTS, tmp_path / "weights", copy_function=os.link)
    (folder / "flow.safetensors").unlink(missing_ok=True)
    monkeypatch.setattr(soundworld.load, "__defaults__", (folder, None, "unet"))
    with pytest.raises(pack.part("aai.errors").InputError, match="flow.safetensors"):
        run("AAI_LoadSoundWorld", picture_model="flow transformer")
    state = {k: v.half() for k, v in both.transformer.state_dict().items()}
    pack.part("aai.files").write_safetensors(folder / "flow.safetensors", state, {}, "weights")
    model, clip, vae, encoder = run("AAI_LoadSoundWorld", picture_model="flow transformer")
    assert type(model.model.model_config).__name__ == "SoundWorldFlow"
    weight = model.model.diffusion_model.final_layer.linear.weight
    assert torch.equal(weight.half(), state["proj_out.weight"])
    with torch.inference_mode():
        cross, _ = clip.encode_from_tokens(clip.tokenize("a city"), return_pooled=True)
    assert cross.shape == (1, 24, encoder.dim) and vae.latent_channels == 32


def test_a_word_goes_out_of_its_prompt_and_what_was_added_stays(both, run, core, pack, make_token):
    def conditioned(text):
        with torch.inference_mode():
            return run("AAI_SoundTokenConditioning", clip=both.clip, token=make_token(), prompt=text)[0]

    def sampled(model, positive):
        with torch.inference_mode():
            (made,) = core.common_ksampler(
                model, 3, 3, 3.0, "euler", "simple", positive, conditioned(""),
                {"samples": torch.zeros(1, 4, 16, 16)},
            )  # fmt: skip
        return made["samples"]

    def weighed(positive, scale="0"):
        given = dict(model=both.model, conditioning=positive, tokens="heavy", reference=-23.0)
        return run("AAI_LoudnessReweight", **given, scale=scale)[0]

    told, shorter, other = (conditioned(t) for t in ("a city in heavy rain", "a city in rain", "a dog"))
    (added,), (wanted,) = (core.ConditioningConcat().concat(first, other) for first in (told, shorter))
    made = sampled(weighed(added), added)
    assert_close(made, sampled(both.model, wanted), atol=1e-4, rtol=0)
    assert not torch.allclose(made, sampled(both.model, shorter), atol=1e-3)
    (mean,) = core.ConditioningAverage().addWeighted(told, other, 0.5)
    with pytest.raises(pack.part("aai.errors").InputError, match="Conditioning Average"):
        weighed(mean)
