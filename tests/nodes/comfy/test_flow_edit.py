"""Flow Edit inside ComfyUI's samplers, on tiny models of ComfyUI's own classes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models

FAMILIES = ["Flux.1", "Z-Image", "SD3.5", "Wan 2.x"]


@pytest.fixture(scope="module", params=FAMILIES)
def flow(request, comfy):
    try:
        return tiny_models.build(tiny_models.FAMILIES[request.param], [])
    except tiny_models.Absent as absent:
        pytest.skip(str(absent))


@pytest.fixture
def encode(flow):
    return lambda text: flow.clip.encode_from_tokens_scheduled(flow.clip.tokenize(text))


@pytest.fixture
def sample(flow):
    import comfy.sample

    def run(model, positive, negative, mask=None, cfg=3.0, latent=None, steps=6):
        given = flow.latents[:1] if latent is None else latent
        noise = comfy.sample.prepare_noise(given, 3)
        with torch.inference_mode():
            return comfy.sample.sample(
                model,
                noise,
                steps,
                cfg,
                "euler",
                "simple",
                positive,
                negative,
                given,
                noise_mask=mask,
                seed=3,
            )

    return run


@pytest.fixture
def edit(run, flow):
    def made(source, source_cfg=3.0, strength=1.0):
        return run("AAI_FlowEdit", model=flow.model, source=source, source_cfg=source_cfg, strength=strength)

    return made


def test_the_same_prompt_leaves_the_picture(flow, edit, encode, sample):
    cond = encode("a city")
    model, _ = edit(cond)
    assert_close(sample(model, cond, encode("")), flow.latents[:1])


def test_another_prompt_moves_it_and_a_mask_holds_the_rest(flow, edit, encode, sample):
    model, _ = edit(encode("a city"))
    mask = torch.zeros(1, 1, *flow.latents.shape[-2:])
    mask[..., : flow.latents.shape[-1] // 2] = 1
    edited = sample(model, encode("a city under rain"), encode(""), mask)
    half = flow.latents.shape[-1] // 2
    assert_close(edited[..., half:], flow.latents[:1, ..., half:])
    assert (edited - flow.latents[:1])[..., :half].abs().max() > 1e-4


def test_the_sampler_and_the_model_give_the_same(flow, edit, encode, sample):
    import comfy.sample
    import comfy.samplers

    source, positive, negative = encode("a city"), encode("a city under rain"), encode("")
    model, sampler = edit(source, strength=0.7)
    first = sample(model, positive, negative)
    given = flow.latents[:1]
    sigmas = comfy.samplers.calculate_sigmas(flow.model.get_model_object("model_sampling"), "simple", 6)
    with torch.inference_mode():
        second = comfy.sample.sample_custom(
            flow.model, comfy.sample.prepare_noise(given, 3), 3.0, sampler, sigmas, positive, negative, given,
            seed=3,
        )  # fmt: skip
    assert_close(second, first)


@pytest.fixture
def stage(core, flow, encode):
    """stage(model, latent, start, end, noise, leftover) -> KSampler (Advanced)'s LATENT, of eight steps."""

    def run(model, latent, start, end, noise=True, leftover=False, seed=7):
        with torch.inference_mode():
            positive, negative = encode("a city under rain"), encode("blurry")
            return core.common_ksampler(
                model, seed, 8, 2.0, "euler", "simple", positive, negative, latent, disable_noise=not noise,
                start_step=start, last_step=end, force_full_denoise=not leftover,
            )[0]  # fmt: skip

    return run


def test_two_samplers_in_a_row_edit_as_one(flow, edit, encode, stage):
    """As Wan 2.2's two models are sampled: the second adds no noise, whatever its seed, and takes the source
    from the first. `strength` is of the first one's steps."""
    source, photograph = encode("a city"), {"samples": flow.latents[:1].clone()}
    for strength in (1.0, 0.86):
        model, other = (edit(source, source_cfg=1.0, strength=strength)[0] for _ in range(2))
        whole = stage(model, photograph, 0, 8)["samples"]
        half = stage(model, photograph, 0, 4, leftover=True)
        # Another edit between them.
        stage(model, {"samples": flow.latents[1:2].clone()}, 0, 4, leftover=True)
        for seed in (7, 8):
            both = stage(other, half, 4, 8, noise=False, seed=seed)["samples"]
            assert_close(both, whole, atol=1e-5, rtol=1e-4)
    assert (whole - flow.latents[:1]).abs().max() > 1e-2


def test_the_noise_is_as_large_as_the_models(pack, flow, encode, edit, sample, monkeypatch):
    """HiDream-O1's is eight times as large as its latents, and ComfyUI has a node for any other model's."""
    inside, seen = pack.part("nodes.comfy.flow_edit"), []

    def recorded(source, sigmas, velocities, noise, **named):
        seen.append(torch.stack(list(noise)))
        return source

    monkeypatch.setattr(inside, "flow_edit", recorded)
    model, _ = edit(encode("a city"))
    loud, sampling = model.clone(), copy.copy(model.get_model_object("model_sampling"))
    sampling.noise_scale = 8.0
    loud.add_object_patch("model_sampling", sampling)
    for made in (model, loud):
        sample(made, encode("a city under rain"), encode(""))
    assert_close(seen[1], 8 * seen[0])


def test_a_second_sampler_without_the_first_s_edit_is_refused(pack, flow, edit, encode, stage):
    refused = pack.part("aai.errors").InputError
    model, _ = edit(encode("a city"), source_cfg=1.0)
    photograph = {"samples": flow.latents[:1].clone()}
    finished, noisy = stage(model, photograph, 0, 4), stage(flow.model, photograph, 0, 4, leftover=True)
    for latent in (finished, noisy, photograph):
        with pytest.raises(refused, match="turn its return_with_leftover_noise on"):
            stage(model, latent, 4, 8, noise=False)
    # Noise that is not used is not asked for.
    assert_close(stage(model, photograph, 0, 8, noise=False), stage(model, photograph, 0, 8))


def test_an_empty_latent_is_refused(pack, flow, edit, encode, sample):
    model, _ = edit(encode("a city"))
    with pytest.raises(pack.part("aai.errors").InputError, match="latent is empty"):
        sample(model, encode("rain"), encode(""), latent=torch.zeros_like(flow.latents[:1]))


def test_a_model_that_cannot_be_trained_is_not_told_so(pack, comfy):
    """Editing needs no backward pass, and what is no flow gets this node's own sentence."""
    try:
        anima = tiny_models.build(tiny_models.FAMILIES["Anima"])
    except tiny_models.Absent as absent:
        pytest.skip(str(absent))
    check = pack.part("nodes.comfy.flow_edit").check_flow
    try:
        check(anima.model)
    except pack.part("aai.errors").InputError as error:
        assert "FlowEdit is for flow models" in str(error)


def test_a_unet_is_refused(pack, run, small, encoded):
    with pytest.raises(pack.part("aai.errors").InputError, match="take Invert Image"):
        run("AAI_FlowEdit", model=small.model, source=encoded("a city"), source_cfg=1.0, strength=1.0)


def test_a_guider_without_a_negative_prompt_takes_a_source_cfg_of_1(flow, edit, encode, pack):
    import comfy.sample
    from comfy_extras.nodes_custom_sampler import Guider_Basic

    guider = Guider_Basic(flow.model)
    guider.set_conds(encode("a city under rain"))
    latent = flow.latents[:1]
    sigmas = torch.linspace(1, 0, 5)
    noise = comfy.sample.prepare_noise(latent, 3)

    def sample(source_cfg):
        _, sampler = edit(encode("a city"), source_cfg=source_cfg)
        with torch.inference_mode():
            return guider.sample(noise, latent, sampler, sigmas, seed=3)

    assert torch.isfinite(sample(1.0)).all()
    with pytest.raises(pack.part("aai.errors").InputError, match="set source_cfg to 1"):
        sample(3.0)


@pytest.mark.parametrize("prompt", ["a city", "a city under *"])
def test_a_heat_map_is_of_the_edited_picture_alone(pack, run, flow, encode, sample, prompt):
    """Whoever has written the source's prompt, and whether it names the sound."""
    clip = pack.part("nodes.comfy.clip")
    widths = {key: clip.vocabulary(flow.clip, key).embedding_dim for key in clip.encoders(flow.clip)}
    generator = torch.Generator().manual_seed(5)
    vectors = {key: torch.randn(1, width, generator=generator) for key, width in widths.items()}
    token = pack.part("aai.token").SoundToken("rain", vectors)
    source, positive = (
        run("AAI_SoundTokenConditioning", clip=flow.clip, token=token, prompt=text)[0]
        for text in (prompt, "a city under *")
    )
    counts = []
    for given in (source, encode("a city")):
        watched, maps = run("AAI_AttentionHeatmap", model=flow.model, conditioning=positive)
        model, _ = run("AAI_FlowEdit", model=watched, source=given, source_cfg=1.0, strength=1.0)
        sample(model, positive, encode(""), cfg=1.0)
        assert maps.maps().mean().item() == pytest.approx(1.0, abs=1e-4)
        counts.append(maps._calls)
    assert counts[0] == counts[1]
