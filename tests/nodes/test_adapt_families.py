"""Train Sound Token on a flow model: the same node, from pictures to a word in a prompt."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models


@pytest.fixture(scope="module")
def flux(pack, comfy):
    return tiny_models.build(tiny_models.FAMILIES["Flux.1"], [str(comfy / "models" / "embeddings")])


@pytest.fixture(scope="module")
def vae(comfy):
    with torch.inference_mode():
        return tiny_models.build_vae(16)


@pytest.fixture
def heard(pack):
    """A sound and the words of its encoder, in a space that no text encoder shares."""
    generator = torch.Generator().manual_seed(3)
    words = ["rain", "thunder", "fire", "a dog", "a clock", "wind"]
    vectors = torch.nn.functional.normalize(torch.randn(6, 48, generator=generator), dim=-1)
    kind = pack.part("aai.encoders.base").SoundEmbedding
    return kind(vectors[0] + 0.1 * vectors[1], -21.5, "c0ffee", "small", words, vectors)


@pytest.fixture
def word(trained, flux, vae, heard):
    def train(**changes):
        given = dict(model=flux.model, clip=flux.clip, vae=vae, embedding=heard, steps=4)
        return trained(**{**given, **changes})

    return train


def test_a_word_is_trained_shown_and_drawn_with(word, flux, core, run, pack):
    done = word(sample_every=2, checkpointing=True, chunk=1)
    token, curve = done.args
    assert set(token.vectors) == {"clip_l", "t5xxl"} == set(token.translation)
    assert token.provenance["base"] == "Flux that reads clip_l of 32, t5xxl of 32"
    assert curve.shape == (1, 256, 512, 3)
    (prompt,) = run("AAI_SoundTokenConditioning", clip=flux.clip, token=token, prompt="a city under *")
    with torch.inference_mode():
        (empty,) = core.CLIPTextEncode().encode(flux.clip, "")
        latent = {"samples": torch.zeros(1, 16, 8, 8)}
        (drawn,) = core.KSampler().sample(flux.model, 1, 2, 1.0, "euler", "simple", prompt, empty, latent)
    assert torch.isfinite(drawn["samples"]).all()


def test_memory_is_spared_and_the_token_is_the_same(word):
    plain = word().args[0].vectors
    for settings in ({"checkpointing": True}, {"chunk": 1}):
        spared = word(**settings).args[0].vectors
        for key, vectors in plain.items():
            assert_close(spared[key], vectors, atol=2e-4, rtol=1e-3)


def test_models_that_do_not_fit_beside_each_other_take_turns(word, monkeypatch, pack):
    training = pack.part("nodes.comfy.training")
    wanted, taken = word().args[0].vectors, []
    load = training.Training._load
    monkeypatch.setattr(training, "_fit", lambda patchers, room: len(patchers) == 1)
    monkeypatch.setattr(
        training.Training, "_load", lambda self, given: (taken.append(given), load(self, given))[1]
    )
    found = word(steps=4).args[0].vectors
    assert all(len(given) == 1 for given in taken)
    assert len(taken) >= 4 and all(a[0] is not b[0] for a, b in zip(taken, taken[1:]))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_cancelled_run_goes_on(word, run, embeddings_folder, monkeypatch, pack):
    whole = word(name="whole").args[0]
    progress = pack.part("nodes.comfy.progress").LossCurve
    call = progress.__call__

    def stop_at_two(self, step, total, loss):
        call(self, step, total, loss)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress, "__call__", stop_at_two)
        with pytest.raises(KeyboardInterrupt):
            word(name="flow")
    token, _ = run("AAI_LoadSoundToken", file="flow-step2.safetensors")
    rest = word(name="flow", resume=token).args[0]
    for key, vectors in whole.vectors.items():
        assert_close(rest.vectors[key], vectors, atol=1e-5, rtol=1e-4)


def test_loras_are_trained_through(word, flux):
    key = "diffusion_model.double_blocks.0.txt_attn.qkv.weight"
    weight = flux.model.model.state_dict()[key]
    before = weight.clone()
    patched = flux.model.clone()
    patched.add_patches({key: ("diff", (torch.randn(weight.shape),))})
    plain, through = word().args[0].vectors, word(model=patched).args[0].vectors
    assert any(not torch.allclose(plain[k], through[k], atol=1e-6) for k in plain)
    again = word().args[0].vectors
    assert all(torch.equal(again[k], plain[k]) for k in plain)
    assert torch.equal(flux.model.model.state_dict()[key], before)


def test_eight_bit_weights_are_trained_through(word, flux, pack):
    import comfy.supported_models

    family = tiny_models.FAMILIES["Flux.1"]
    with torch.inference_mode():
        config = comfy.supported_models.Flux(tiny_models.settings_of(family))
        model = tiny_models.build_model(config, torch.float8_e4m3fn)
    assert next(model.model.diffusion_model.double_blocks.parameters()).dtype == torch.float8_e4m3fn
    token = word(model=model).args[0]
    assert all(torch.isfinite(v).all() for v in token.vectors.values()) and token.provenance["steps"] == "4"


def test_what_cannot_be_trained_is_refused_by_its_name(word, flux, pack, monkeypatch):
    refused = pack.part("aai.errors").InputError

    def renamed(module: str):
        """The model with a transformer whose class is of another pack's module."""
        kind = type(flux.model.model.diffusion_model)
        return type(kind.__name__, (kind,), {"__module__": module})

    inner = flux.model.model.diffusion_model
    for module, name in (("ComfyUI-GGUF.ops", "GGUF"), ("nunchaku.models", "Nunchaku")):
        with monkeypatch.context() as patch:
            patch.setattr(inner, "__class__", renamed(module))
            with pytest.raises(refused, match=f"{name} weights.*safetensors"):
                word()
    compiled = flux.model.clone()
    compiled.model_options["transformer_options"]["wrappers"] = {"apply_model": {"torch.compile": [None]}}
    with pytest.raises(refused, match="compiled"):
        word(model=compiled)


def test_a_clip_of_another_family_is_said_to_be_one(word, pack):
    try:
        other = tiny_models.build(tiny_models.FAMILIES["Flux.2 Klein"])
    except tiny_models.Absent as absent:
        pytest.skip(str(absent))
    with pytest.raises(
        pack.part("aai.errors").InputError, match=r"qwen3_4b\) is not the text encoder of.*Flux"
    ):
        word(clip=other.clip)


def test_a_sound_encoder_without_words_cannot_enter(word, heard, pack):
    from dataclasses import replace

    bare = replace(heard, labels=[], label_vectors=torch.zeros(0, 0))
    with pytest.raises(pack.part("aai.errors").InputError, match="48 numbers.*knows.*words"):
        word(embedding=bare)
