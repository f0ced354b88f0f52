"""DiffusersPictureModel against diffusers' own pipelines on the same random weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from aai.errors import InputError
from aai.picture.codec import codec_of
from aai.picture.diffusers import DiffusersPictureModel, load
from aai.picture.model import Conditioning
from aai.prompt import Prompt


@pytest.fixture
def parts(make_parts):
    return make_parts()


@pytest.fixture
def model(parts):
    return DiffusersPictureModel(**vars(parts))


def pipeline_of(parts):
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=EulerDiscreteScheduler.from_config(
            {**parts.scheduler_config, "timestep_spacing": "linspace", "steps_offset": 1}
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def encoded(pipeline, text: str):
    return pipeline.encode_prompt(text, "cpu", 1, False)[0]


def test_plain_prompts_are_encoded_as_the_pipeline_does(model, parts):
    for text in ("a photo of rain, at night", "", "rain " * 90):
        found = model.encode_prompt(Prompt(text))
        assert torch.equal(found.cross, encoded(pipeline_of(parts), text))
        assert found.pooled is None and found.positions == {}


@pytest.mark.parametrize("rows", [1, 3])
def test_a_saved_token_is_diffusers_textual_inversion(model, make_parts, make_token, tmp_path, rows):
    token = make_token("rain", rows=rows)
    token.save(tmp_path / "rain.safetensors")
    pipeline = pipeline_of(make_parts())
    pipeline.load_textual_inversion(str(tmp_path / "rain.safetensors"))
    text = "a photo of <rain>, and the city under <rain> at night"
    assert_close(
        model.encode_prompt(Prompt(text, (token,))).cross, encoded(pipeline, text), atol=1e-4, rtol=0
    )


def test_vectors_stand_in_for_the_tokens_own(model, make_token):
    prompt = Prompt("a photo of *", (make_token("rain"),))
    other = torch.randn(1, 32)
    instead = model.encode_prompt(prompt, {"rain": {"clip_l": other}})
    meant = make_token("rain")
    meant.vectors["clip_l"] = other
    assert torch.equal(instead.cross, model.encode_prompt(Prompt("a photo of *", (meant,))).cross)
    assert not torch.equal(instead.cross, model.encode_prompt(prompt).cross)
    # Words before the token cannot see it: the text transformer is causal.
    position = instead.positions["rain"][0]
    assert torch.equal(instead.cross[:, :position], model.encode_prompt(prompt).cross[:, :position])


def test_the_loss_is_differentiable_in_the_vectors(model, make_token):
    prompt = Prompt("a photo of *", (make_token(rows=2),))
    latents, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([100, 700])

    def loss(vectors):
        return model.denoising_loss(
            latents, model.encode_prompt(prompt, {"rain": {"clip_l": vectors}}), noise, t
        )

    vectors = prompt.tokens[0].vectors["clip_l"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(vectors), vectors)
    assert (gradient.norm(dim=1) > 0).all()
    for parameter in [*model.unet.parameters(), *model._text_encoders["clip_l"].model.parameters()]:
        assert not parameter.requires_grad
    direction = gradient / gradient.norm()
    with torch.no_grad():
        slope = (loss(vectors + 0.02 * direction) - loss(vectors - 0.02 * direction)) / 0.04
    assert_close(slope, gradient.norm(), rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_loss_and_noise_by_the_book(make_parts, kind):
    parts = make_parts(prediction_type=kind)
    model = DiffusersPictureModel(**vars(parts))
    cond = model.encode_prompt(Prompt("a photo of rain"))
    latents, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), [3, 990]
    total, predicted_noise = 0.0, []
    for i in range(2):
        product = 1.0
        for k in range(t[i] + 1):
            product *= 1 - (0.00085**0.5 + k / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2
        signal, share = product**0.5, (1 - product) ** 0.5
        noisy = signal * latents[i] + share * noise[i]
        with torch.no_grad():
            output = parts.unet(noisy[None], t[i], encoder_hidden_states=cond.cross).sample[0]
        target = noise[i] if kind == "epsilon" else signal * noise[i] - share * latents[i]
        total += float(((output - target) ** 2).mean()) / 2
        # eps = share x + signal v, since x = signal x0 + share eps and v = signal eps - share x0.
        predicted_noise.append(output if kind == "epsilon" else share * noisy + signal * output)
        found = model.predict_noise(noisy[None], torch.tensor([t[i]]), cond)[0]
        assert_close(found, predicted_noise[i], atol=1e-4, rtol=1e-4)
    assert float(model.denoising_loss(latents, cond, noise, torch.tensor(t))) == pytest.approx(
        total, rel=1e-4
    )


@pytest.mark.parametrize("kind, guidance", [("epsilon", 7.5), ("epsilon", 1.0), ("v_prediction", 4.0)])
def test_sampling_is_the_pipelines(make_parts, kind, guidance, first_noise):
    parts = make_parts(prediction_type=kind)
    model = DiffusersPictureModel(**vars(parts))
    cond, uncond = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt(""))
    found = model.sample(cond, uncond, seeds=[11], steps=4, guidance=guidance)
    # 4 steps of 1000 timesteps fall on whole ones, where both schedules are the same.
    expected = pipeline_of(parts)(
        "a photo of rain",
        num_inference_steps=4,
        guidance_scale=guidance,
        height=16,
        width=16,
        output_type="latent",
        latents=first_noise(11),
    ).images
    assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_each_seed_is_its_own_picture(model):
    cond, uncond = model.encode_prompt(Prompt("rain")), model.encode_prompt(Prompt(""))
    state = torch.get_rng_state()
    seen = []
    pair = model.sample(
        cond,
        uncond,
        seeds=[5, 9],
        steps=3,
        width=32,
        height=24,
        callback=lambda i, n, z: seen.append((i, n, z.shape)),
    )
    assert pair.shape == (2, 4, 12, 16) and seen == [(i, 3, pair.shape) for i in (1, 2, 3)]
    assert torch.equal(torch.get_rng_state(), state)
    alone = model.sample(cond, uncond, seeds=[9], steps=3, width=32, height=24)
    assert_close(pair[1:], alone, atol=1e-3, rtol=1e-3)
    each = Conditioning(torch.cat([model.encode_prompt(Prompt("fire")).cross, cond.cross]))
    mixed = model.sample(each, uncond, seeds=[5, 9], steps=3, width=32, height=24)
    assert_close(mixed[1:], alone, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(mixed[0], pair[0], atol=1e-3)


def test_pictures_to_latents_and_back(model, parts):
    images = torch.rand(2, 3, 17, 19)
    latents = model.encode_images(images)
    with torch.no_grad():
        mean = (
            parts.vae.encode(images[..., :16, :18] * 2 - 1).latent_dist.mean * parts.vae.config.scaling_factor
        )
        picture = (parts.vae.decode(latents / parts.vae.config.scaling_factor).sample + 1) / 2
    assert torch.equal(latents, mean) and latents.shape == (2, 4, 8, 9)
    assert_close(model.decode(latents), picture.clamp(0, 1))
    seen = []
    encoder = parts.vae.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    model.encode_images(torch.rand(5, 3, 16, 512))
    model.encode_images(torch.rand(2, 3, 16, 520))
    encoder.remove()
    assert seen == [4, 1, 1, 1]
    seen.clear()
    parts.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    model.decode(latents)
    assert seen == [1, 1]
    with pytest.raises(InputError, match="1 x 9 pixels"):
        model.encode_images(torch.rand(1, 3, 9, 1))


def test_an_autoencoders_latents_are_spread_as_the_pipelines_of_xl_do(make_parts):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    mean, deviation = torch.randn(4, 1, 1), torch.rand(4, 1, 1) + 0.5
    config = make_parts().vae.config
    given = dict(scaling_factor=0.5, latents_mean=mean.flatten().tolist())
    whole = AutoencoderKL(**{**config, **given, "latents_std": deviation.flatten().tolist()}).eval()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        own = whole.encode(x).latent_dist.mode()
        latents, codec = (own - mean) * 0.5 / deviation, codec_of(whole)
        assert_close(codec.encode(x), latents)
        assert_close(codec.decode(latents), whole.decode(latents * deviation / 0.5 + mean).sample)
        half = AutoencoderKL(**{**config, **given}).eval()
        assert_close(codec_of(half).encode(x), half.encode(x).latent_dist.mode() * 0.5)


def test_a_plain_autoencoder_is_a_codec():
    class Halves(nn.Module):
        downscale = 2

        def encode(self, x):
            return F.pixel_unshuffle(x, 2)

        def decode(self, z):
            return F.pixel_shuffle(z, 2)

    codec = codec_of(Halves())
    x = torch.rand(1, 3, 8, 8)
    assert codec.encode(x).shape == (1, 12, 4, 4) and torch.equal(codec.decode(codec.encode(x)), x)
    assert codec.downscale == 2


def test_word_statistics(model, parts):
    weight = parts.text_encoder.get_input_embeddings().weight
    info = model.text_encoders["clip_l"]
    assert info.dim == 32 and info.mean_norm == pytest.approx(
        float(sum(w.norm() for w in weight) / len(weight)), rel=1e-4
    )
    assert info.std == pytest.approx(float(weight.flatten().std()), rel=1e-4)
    assert list(model.text_encoders) == ["clip_l"] and model.native_size == 16


def test_tokens_of_another_width_are_refused(model, make_token):
    with pytest.raises(InputError, match="'rain'.*768.*clip_l.*32"):
        model.encode_prompt(Prompt("*", (make_token(width=768),)))
    with pytest.raises(InputError, match="2 vectors"):
        model.encode_prompt(Prompt("*", (make_token(rows=3),)), {"rain": {"clip_l": torch.randn(2, 32)}})


def test_a_folder_loads_as_the_same_model(model, parts, tmp_path):
    pipeline_of(parts).save_pretrained(tmp_path / "model")
    read = load(tmp_path / "model")
    prompt = Prompt("a photo of rain")
    assert torch.equal(read.encode_prompt(prompt).cross, model.encode_prompt(prompt).cross)
    latents, t = torch.randn(1, 4, 8, 8), torch.tensor([40])
    expected = model.predict_noise(latents, t, model.encode_prompt(prompt))
    assert_close(read.predict_noise(latents, t, read.encode_prompt(prompt)), expected)
    half = load(tmp_path / "model", torch.float16)
    assert {half.dtype, half._text_encoders["clip_l"].model.dtype} == {torch.float16}
    assert half.vae.dtype == torch.float32
    assert torch.equal(half.decode(latents), read.decode(latents))


@pytest.mark.parametrize("kept", [(), ("vae",)])
def test_folders_of_the_fp16_variant_alone_load(parts, tmp_path, kept):
    pipeline = pipeline_of(parts)
    pipeline.save_pretrained(tmp_path / "whole")
    pipeline.save_pretrained(tmp_path / "model", variant="fp16")
    for part in kept:
        (weights,) = (tmp_path / "model" / part).glob("*.safetensors")
        weights.rename(weights.with_name(weights.name.replace(".fp16", "")))
    latents, t, prompt = torch.randn(1, 4, 8, 8), torch.tensor([40]), Prompt("a photo of rain")
    whole, read = load(tmp_path / "whole"), load(tmp_path / "model")
    assert torch.equal(read.encode_prompt(prompt).cross, whole.encode_prompt(prompt).cross)
    expected = whole.predict_noise(latents, t, whole.encode_prompt(prompt))
    assert_close(read.predict_noise(latents, t, read.encode_prompt(prompt)), expected)
    assert torch.equal(read.decode(latents), whole.decode(latents))


def test_a_hubs_repository_of_the_fp16_variant_alone_loads(parts, tmp_path, hub):
    pipeline_of(parts).save_pretrained(tmp_path / "hub" / "model", variant="fp16")
    code = (
        "from aai.picture.diffusers import load\nfrom aai.prompt import Prompt\n"
        "print(load('nobody/model').encode_prompt(Prompt('rain')).cross.sum().item())"
    )
    expected = load(tmp_path / "hub" / "model").encode_prompt(Prompt("rain")).cross.sum().item()
    for offline in (False, True):
        assert float(hub(code, offline)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("damage", ["null", "torn", "lost", "sizes", "trap", "deep"])
def test_damaged_folders_give_a_sentence(parts, tmp_path, damage, capsys):
    pipeline_of(parts).save_pretrained(tmp_path)
    config, (weights,) = tmp_path / "unet" / "config.json", (tmp_path / "unet").glob("*.safetensors")
    if damage == "null":
        config.write_text("null", encoding="utf-8")
    elif damage == "deep":
        config.write_text("[" * 100_000, encoding="utf-8")
    elif damage == "torn":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "sizes":
        settings = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps(settings | {"cross_attention_dim": 64}), encoding="utf-8")
    else:
        weights.unlink()
        if damage == "trap":
            torch.save({"weight": Trap()}, weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="cannot be loaded"):
        load(tmp_path)
    assert "executed" not in capsys.readouterr().out


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("", {"text_encoder": [None, None]}, "which has no text_encoder: load"),
        ("", {"text_encoder": ["transformers", "T5EncoderModel"]}, "whose text_encoder is a T5EncoderModel"),
        ("", {"unet": ["diffusers", "UNetMotionModel"]}, "whose unet is a UNetMotionModel: load"),
        ("", {"vae": ["diffusers", "AutoencoderTiny"]}, "whose vae is a AutoencoderTiny: load"),
        ("", {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "has no tokenizer_2: load"),
        ("unet", {"class_embed_type": "projection"}, "more than a prompt .class_embed_type: projection"),
        ("unet", {"num_class_embeds": 1000}, "more than a prompt .num_class_embeds: 1000"),
        ("unet", {"addition_embed_type": "text_time"}, "more than a prompt .addition_embed_type: text_time"),
        ("scheduler", {"sigma_data": 0.5}, "EulerDiscreteScheduler. is not made of betas"),
        ("scheduler", {"prediction_type": "sample"}, "predict 'sample'"),
    ],
)
def test_other_models_are_refused_before_their_weights_are_read(parts, tmp_path, part, changes, says):
    pipeline_of(parts).save_pretrained(tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    names = {"": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}
    config = tmp_path / names.get(part, f"{part}/config.json")
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**settings, **changes}), encoding="utf-8")
    with pytest.raises(InputError, match=says) as refused:
        load(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_folders_of_another_noise_are_refused(parts, tmp_path, kind):
    import diffusers

    pipeline = pipeline_of(parts)
    pipeline.register_modules(scheduler=getattr(diffusers, kind)())
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"{kind}. is not made of betas"):
        load(tmp_path)


def test_xl_loads(make_sdxl_parts, tmp_path):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    parts = vars(make_sdxl_parts())
    scheduler = EulerDiscreteScheduler.from_config(parts.pop("scheduler_config"))
    StableDiffusionXLPipeline(**parts, scheduler=scheduler).save_pretrained(tmp_path)
    assert list(load(tmp_path).text_encoders) == ["clip_l", "clip_g"]


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_model_is_the_same_in_bfloat16(parts, model, tmp_path, variant):
    pipeline_of(parts).save_pretrained(tmp_path, variant=variant)
    read = load(tmp_path, torch.bfloat16)
    assert read.dtype == torch.bfloat16 and read.fingerprint == model.fingerprint


def test_the_diffusers_that_is_installed_takes_dtype():
    """0.40 is the first whose pipelines do; those before it leave it unread, and load in float32."""
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    ((major, minor),) = re.findall(r'"diffusers>=(\d+)\.(\d+)"', project)
    assert (int(major), int(minor)) >= (0, 40)


def test_folders_without_a_model_are_refused(tmp_path):
    with pytest.raises(InputError, match="model_index.json"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{not json", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(tmp_path)


def test_a_model_is_moved_and_cast_without_a_note(make_parts, caplog):
    from diffusers.utils import logging

    logging.enable_propagation()
    try:
        model = DiffusersPictureModel(**vars(make_parts()))
        for dtype in (torch.float32, torch.float16):
            assert next(model.to(torch.device("cpu"), dtype).unet.parameters()).dtype == dtype
    finally:
        logging.disable_propagation()
    assert caplog.text == ""
