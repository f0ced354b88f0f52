"""Folders of flow transformers: read as what they hold, and a sentence where that is nothing whole."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.picture.diffusers import load
from aai.picture.flow_families import flow_model
from aai.prompt import Prompt


@pytest.mark.parametrize("family", ["Flux", "FluxSchnell", "ZImage"])
def test_a_folder_loads_as_the_same_model(family, make_flux, make_z_image, tmp_path):
    pipeline = {"Flux": make_flux, "FluxSchnell": lambda: make_flux(False), "ZImage": make_z_image}[family]()
    pipeline.save_pretrained(tmp_path)
    model, read = flow_model(pipeline.components), load(tmp_path)
    prompt = Prompt("a photo of rain")
    assert read.family == family and read.native_size == 1024 and read.guidance == 1.0
    cond, found = model.encode_prompt(prompt), read.encode_prompt(prompt)
    assert found.token_ids == cond.token_ids
    assert_close(found.cross, cond.cross)
    assert read.fingerprint == model.fingerprint
    latents, t = torch.randn(1, 16, 8, 8), torch.tensor([40])
    assert_close(read.predict_noise(latents, t, found), model.predict_noise(latents, t, cond))
    half = load(tmp_path, torch.float16)
    assert half.dtype == torch.bfloat16 and half.vae.dtype == torch.float32
    assert half.fingerprint == model.fingerprint and torch.equal(half.decode(latents), read.decode(latents))


def test_the_undistilled_z_image_is_guided(make_z_image, tmp_path):
    make_z_image(shift=6.0).save_pretrained(tmp_path)
    assert load(tmp_path).guidance == 4.0


def test_folders_of_the_bf16_variant_alone_load(make_z_image, tmp_path):
    pipeline = make_z_image()
    pipeline.save_pretrained(tmp_path, variant="bf16")
    prompt = Prompt("a photo of rain")
    found, wanted = (m.encode_prompt(prompt).cross for m in (load(tmp_path), flow_model(pipeline.components)))
    assert_close(found, wanted)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("torn transformer", "cannot be loaded"),
        ("no transformer", "cannot be loaded"),
        ("torn text_encoder_2", "cannot be loaded"),
        ("no text_encoder_2", "cannot be loaded"),
        ("no vae", "cannot be loaded"),
        ("no tokenizer_2", "tokenizer_2|cannot be loaded"),
        ("empty tokenizer_2", "tokenizer_2|cannot be loaded"),
        ("empty tokenizer", "tokenizer|cannot be loaded"),
        ("no scheduler", "cannot be loaded"),
        ("null index", "cannot be loaded"),
        ("shift", "shift is no number above 0"),
    ],
)
def test_half_a_folder_gets_a_sentence(damage, says, make_flux, tmp_path):
    make_flux().save_pretrained(tmp_path)
    what, _, part = damage.partition(" ")
    folder = tmp_path / part
    if what == "torn":
        (weights,) = folder.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:2000])
    elif what == "no":
        shutil.rmtree(folder)
    elif what == "empty":
        for file in folder.iterdir():
            if file.name != "tokenizer_config.json":
                file.unlink()
    elif what == "null":
        (tmp_path / "model_index.json").write_text("null", encoding="utf-8")
    else:
        config = tmp_path / "scheduler" / "scheduler_config.json"
        settings = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps({**settings, "max_shift": "much"}), encoding="utf-8")
    with pytest.raises(InputError, match=says) as refused:
        load(tmp_path)
    assert "\n" not in str(refused.value)


def test_z_image_without_its_tokenizers_words_is_refused(make_z_image, tmp_path):
    make_z_image().save_pretrained(tmp_path)
    for file in (tmp_path / "tokenizer").iterdir():
        if file.name != "tokenizer_config.json":
            file.unlink()
    with pytest.raises(InputError, match="tokenizer|cannot be loaded"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("QwenImagePipeline", {"transformer": ["diffusers", "QwenImageTransformer2DModel"]}),
        ("Flux2Pipeline", {"transformer": ["diffusers", "Flux2Transformer2DModel"]}),
        ("StableCascadeDecoderPipeline", {"decoder": ["diffusers", "StableCascadeUNet"]}),
        ("StableVideoDiffusionPipeline", {"unet": ["diffusers", "UNetSpatioTemporalConditionModel"]}),
    ],
)
def test_other_pipelines_are_refused_by_name_before_they_are_read(kind, parts, tmp_path):
    index = {"_class_name": kind, "_diffusers_version": "0.36.0", "vae": ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_text(json.dumps({**index, **parts}), encoding="utf-8")
    with pytest.raises(InputError, match=f"is a {kind}, .*Flux.1 or Z-Image.*ComfyUI"):
        load(tmp_path)


def test_a_family_that_this_diffusers_lacks_is_named(tmp_path):
    import diffusers

    parts = {"transformer": ["diffusers", "ZImageTransformer2DModel"]}
    index = {"_class_name": "ZImageOfTomorrowPipeline", "_diffusers_version": "9.0", **parts}
    (tmp_path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match=f"{diffusers.__version__}.* has no ZImageOfTomorrowPipeline.*newer"):
        load(tmp_path)


def test_a_transformer_that_reads_more_than_noise_is_refused(make_flux, tmp_path):
    make_flux(in_channels=128, out_channels=64).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="reads 128 channels for latents of 64"):
        load(tmp_path)
