"""DiffusersPictureModel of two text encoders against SDXL's own pipeline on the same random weights."""

from __future__ import annotations

import copy
import re
from operator import attrgetter
from pathlib import Path

import torch
from torch.testing import assert_close

from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt


def test_sdxl_reads_both_text_encoders(make_sdxl_parts, make_token, first_noise):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    parts = make_sdxl_parts()
    second, text_encoder_2 = parts.tokenizer_2, parts.text_encoder_2
    pipeline = StableDiffusionXLPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=parts.tokenizer,
        tokenizer_2=second,
        unet=parts.unet,
        add_watermarker=False,
        force_zeros_for_empty_prompt=False,
        scheduler=EulerDiscreteScheduler.from_config(
            {**parts.scheduler_config, "timestep_spacing": "linspace", "steps_offset": 1}
        ),
    )
    model = DiffusersPictureModel(**vars(parts))
    assert {k: v.dim for k, v in model.text_encoders.items()} == {"clip_l": 32, "clip_g": 64}
    text = "a photo of rain, at night"
    cross, _, pooled, _ = pipeline.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)
    found = model.encode_prompt(Prompt(text))
    assert torch.equal(found.cross, cross) and torch.equal(found.pooled, pooled)
    expected = pipeline(
        text,
        negative_prompt="",
        num_inference_steps=4,
        guidance_scale=5.0,
        height=16,
        width=16,
        output_type="latent",
        latents=first_noise(3),
    ).images
    sampled = model.sample(found, model.encode_prompt(Prompt("")), seeds=[3], steps=4, guidance=5.0)
    assert_close(sampled, expected, atol=1e-3, rtol=1e-3)

    token = make_token("rain", rows=2)
    token.vectors["clip_g"] = torch.randn(2, 64) * 0.02
    for tokenizer, encoder, key in (
        (parts.tokenizer, parts.text_encoder, "clip_l"),
        (second, text_encoder_2, "clip_g"),
    ):
        pipeline.load_textual_inversion(
            token.vectors[key], token="<rain>", text_encoder=encoder, tokenizer=tokenizer
        )
    cross, _, pooled, _ = pipeline.encode_prompt(
        "a photo of <rain> at night", device="cpu", do_classifier_free_guidance=False
    )
    vectors = {"rain": token.vectors}
    found = model.encode_prompt(Prompt("a photo of * at night", (token,)), vectors)
    assert_close(found.cross, cross, atol=1e-4, rtol=0)
    assert_close(found.pooled, pooled, atol=1e-4, rtol=0)


def test_a_token_after_xls_published_configs_needs_two_lines(make_sdxl_parts, make_token):
    """Stable Diffusion XL's text_encoder_2 says that its end is token 2, so transformers pools at the highest
    id: the end's, until a token is added. Two lines of the documentation say which one the end is."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModelWithProjection

    parts = make_sdxl_parts()
    config = parts.text_encoder_2.config
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 2, 1
    encoder = CLIPTextModelWithProjection(config)
    encoder.load_state_dict(parts.text_encoder_2.state_dict())
    parts.text_encoder_2 = encoder.eval()
    pipeline = StableDiffusionXLPipeline(
        vae=parts.vae,
        text_encoder=copy.deepcopy(parts.text_encoder),
        tokenizer=copy.deepcopy(parts.tokenizer),
        text_encoder_2=copy.deepcopy(encoder),
        tokenizer_2=copy.deepcopy(parts.tokenizer_2),
        unet=parts.unet,
        scheduler=EulerDiscreteScheduler.from_config(parts.scheduler_config),
        add_watermarker=False,
    )
    token = make_token("rain", rows=2)
    token.vectors["clip_g"] = torch.randn(2, 64) * 0.02
    model = DiffusersPictureModel(**vars(parts))
    found = model.encode_prompt(Prompt("a photo of * at night", (token,)))
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            token.vectors[key], token="<rain>", text_encoder=getattr(pipeline, f"text_encoder{number}"),
            tokenizer=getattr(pipeline, f"tokenizer{number}"),
        )  # fmt: skip

    def read():
        return pipeline.encode_prompt(
            "a photo of <rain> at night", device="cpu", do_classifier_free_guidance=False
        )[::2]

    assert not torch.allclose(read()[1], found.pooled, atol=1e-2)
    page = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")
    written = re.findall(r"^    text_model = (\S+)\n    text_model\.eos_token_id = (\S+)$", page, re.M)
    ((model_path, end_path),) = written
    value = lambda path: attrgetter(path.removeprefix("pipeline."))(pipeline)  # noqa: E731
    value(model_path).eos_token_id = value(end_path)
    cross, pooled = read()
    assert_close(cross, found.cross, atol=1e-4, rtol=0)
    assert_close(pooled, found.pooled, atol=1e-4, rtol=0)


def test_all_parts_are_moved_and_all_but_the_autoencoder_take_another_type(make_sdxl_parts):
    parts = make_sdxl_parts()
    model = DiffusersPictureModel(**vars(parts)).to(torch.float64)
    modules = (parts.unet, parts.text_encoder, parts.text_encoder_2)
    assert {p.dtype for module in modules for p in module.parameters()} == {torch.float64}
    assert {p.dtype for p in parts.vae.parameters()} == {torch.float32}
    assert model.dtype == model.encode_prompt(Prompt("rain")).cross.dtype == torch.float64
    model.to("meta", torch.float16)
    assert {p.device.type for m in (*modules, parts.vae) for p in m.parameters()} == {"meta"}
