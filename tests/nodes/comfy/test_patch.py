"""What a MODEL that samples with an injection may be, and what it leaves as it was."""

from __future__ import annotations

import pytest
import torch


def test_the_model_given_stays_as_it_was(small, edit, encoded, sampled, empty):
    before = sampled(small.model, encoded("a city"), empty())
    sampled(*edit())
    assert "aai_injection" not in small.model.model_options["transformer_options"]
    assert torch.equal(sampled(small.model, encoded("a city"), empty()), before)


def test_a_model_without_cross_attention_is_refused(pack, small, edit):
    import comfy.model_patcher

    soundworld = pack.part("nodes.comfy.soundworld")
    config = {
        **soundworld.comfy_unet_config(), "use_spatial_transformer": False, "context_dim": None,
        "transformer_depth": [0] * 3, "transformer_depth_output": [0] * 6, "transformer_depth_middle": -1,
    }  # fmt: skip
    cpu = torch.device("cpu")
    model = comfy.model_patcher.ModelPatcher(soundworld.SoundWorldConfig(config).get_model({}), cpu, cpu)
    with pytest.raises(pack.part("aai.errors").InputError, match="load a Stable Diffusion 1, 2 or XL"):
        edit(model=model)


def test_a_patched_models_inverted_picture_is_its_own_loaded_or_not(run, small, edit):
    import comfy.model_management

    key = next(iter(small.model.model.state_dict()))
    weight = small.model.model.state_dict()[key]
    model = small.model.clone()
    model.add_patches({key: (torch.full_like(weight, 0.1),)})
    inverted = run("AAI_InvertImage", model=model, clip=small.clip, vae=small.vae,
                   image=torch.rand(1, 64, 64, 3), prompt="a city", steps=2, null_text=False,
                   guidance=4.0)[0]  # fmt: skip
    edit(model=model, latent=inverted)
    with torch.inference_mode():
        comfy.model_management.unload_all_models()
    edit(model=model, latent=inverted)


def test_an_inverted_picture_of_another_model_is_refused(pack, run, small, edit):
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae,
                   image=torch.rand(1, 64, 64, 3), prompt="a city", steps=2, null_text=False,
                   guidance=4.0)[0]  # fmt: skip
    other = pack.part("nodes.comfy.soundworld").build_model(
        {k: v + 0.01 for k, v in small.unet.state_dict().items()}
    )
    with pytest.raises(pack.part("aai.errors").InputError, match="inverted with another model"):
        edit(model=other, latent=inverted)
