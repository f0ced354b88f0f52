"""Pairs through core's KSampler: the source is what it would be alone, whatever samples them."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch

SAMPLERS = """
    euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms
    dpm_fast dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m
    dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde
    dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp
    res_multistep_ancestral res_multistep_ancestral_cfg_pp gradient_estimation
    gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2
    exp_heun_2_x0 exp_heun_2_x0_sde
""".split()
STEPS, SEED = 4, 7


@pytest.fixture(scope="session")
def core(comfy):
    return importlib.import_module("nodes")


@pytest.fixture(scope="session")
def rain(pack):
    generator = torch.Generator().manual_seed(0)
    vectors = {"clip_l": torch.randn(1, 192, generator=generator) * 0.05}
    return pack.part("aai.token").SoundToken("rain", vectors)


@pytest.fixture(scope="session")
def encoded(core, small):
    def encode(text):
        with torch.inference_mode():
            return core.CLIPTextEncode().encode(small.clip, text)[0]

    return encode


@pytest.fixture(scope="session")
def sampled(core, small, encoded):
    """sampled(model, positive, latent) -> the latents of core's KSampler."""

    def sample(model, positive, latent, sampler="euler", cfg=4.0, scheduler="normal", denoise=1.0):
        with torch.inference_mode():
            (made,) = core.common_ksampler(
                model, SEED, STEPS, cfg, sampler, scheduler, positive, encoded("night"), latent, denoise
            )
        return made["samples"]

    return sample


@pytest.fixture(scope="session")
def edit(run, small, rain):
    """edit(**inputs) -> MODEL, CONDITIONING, LATENT of the node."""

    def make(**inputs):
        given = dict(
            model=small.model,
            clip=small.clip,
            token=rain,
            latent={"samples": torch.zeros(1, 32, 8, 8)},
            source_prompt="a city",
            edited_prompt="a city under *",
            scale="1",
            windows="as set below",
            cross_end=0.8,
            self_end=0.5,
            self_downscale=1,
            silence="full",
        )
        return run("AAI_PromptToPromptEdit", **{**given, **inputs})

    return make


def empty(count=1):
    return {"samples": torch.zeros(count, 32, 8, 8)}


def pictures(small, latents):
    with torch.inference_mode():
        return small.vae.decode(latents)


def assert_same(small, found, expected):
    """At most 2/255 apart in every pixel."""
    assert (pictures(small, found) - pictures(small, expected)).abs().max() <= 2 / 255


def test_the_list_of_samplers_is_cores(core):
    known = set(core.comfy.samplers.SAMPLER_NAMES)
    assert known - set(SAMPLERS) == {"dpm_adaptive"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_source_as_alone(core, small, edit, encoded, sampled, sampler):
    if sampler not in core.comfy.samplers.SAMPLER_NAMES:
        pytest.skip(f"this ComfyUI has no {sampler}")
    model, positive, latent = edit()
    pair = sampled(model, positive, latent, sampler)
    alone = sampled(small.model, encoded("a city"), empty(), sampler)
    assert_same(small, pair[:1], alone)
    assert (pair[1] - pair[0]).abs().max() > 1e-3
    silent, positive, latent = edit(scale="0")
    pair = sampled(silent, positive, latent, sampler)
    assert_same(small, pair[1:], pair[:1])


def test_dpm_adaptive_is_refused(pack, edit, sampled):
    model, positive, latent = edit()
    with pytest.raises(pack.part("aai.errors").InputError, match="dpm_adaptive chooses its steps"):
        sampled(model, positive, latent, "dpm_adaptive")


@pytest.fixture(scope="session")
def custom_sampled(core, small, encoded):
    """custom_sampled(sampler, model, positive, latent) -> the latents of core's SamplerCustom."""
    import comfy.sample

    def sample(sampler, model, positive, latent):
        sigmas = core.comfy.samplers.calculate_sigmas(
            small.model.get_model_object("model_sampling"), "normal", STEPS
        )
        with torch.inference_mode():
            start = latent["samples"]
            noise = comfy.sample.prepare_noise(start, SEED, latent.get("batch_index"))
            return comfy.sample.sample_custom(
                model, noise, 4.0, sampler, sigmas, positive, encoded("night"), start, seed=SEED
            )

    return sample


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2", "heunpp2"])
def test_churn_is_shared(core, small, edit, encoded, custom_sampled, name):
    sampler = core.comfy.samplers.ksampler(name, {"s_churn": 2.0})
    pairs = custom_sampled(sampler, *edit(latent=empty(2)))
    alone = custom_sampled(sampler, small.model, encoded("a city"), empty(2))
    assert_same(small, pairs[[0, 2]], alone)
    without = custom_sampled(core.comfy.samplers.ksampler(name), small.model, encoded("a city"), empty(2))
    assert not torch.allclose(alone, without, atol=1e-3)


def test_a_sampler_with_noise_of_its_own_shares_it(small, edit, encoded, custom_sampled):
    from comfy.samplers import KSAMPLER
    from comfy_extras.nodes_advanced_samplers import sample_lcm_upscale

    sampler = KSAMPLER(sample_lcm_upscale, {"total_upscale": 1.5, "upscale_method": "bilinear"})
    pair = custom_sampled(sampler, *edit())
    assert pair.shape[-1] == 12
    assert_same(small, pair[:1], custom_sampled(sampler, small.model, encoded("a city"), empty()))
    silent = custom_sampled(sampler, *edit(scale="0"))
    assert_same(small, silent[1:], silent[:1])


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_a_noise_mask_keeps_the_latent_as_alone(small, edit, encoded, sampled, sampler):
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    latent = {"samples": torch.randn(1, 32, 8, 8, generator=generator), "noise_mask": mask}
    pair = sampled(*edit(latent=latent), sampler)
    assert_same(small, pair[:1], sampled(small.model, encoded("a city"), latent, sampler))
    assert torch.allclose(pair[..., :4], latent["samples"][..., :4].expand(2, -1, -1, -1), atol=1e-5)


@pytest.mark.parametrize("scheduler", ["simple", "karras", "exponential", "sgm_uniform", "beta"])
def test_windows_mean_the_same_for_every_scheduler(run, small, rain, edit, encoded, sampled, scheduler):
    """With every window shut the edited picture is the plain one; shut after the last step, it is not."""
    model, positive, latent = edit(cross_end=0.0, self_end=0.0)
    pair = sampled(model, positive, latent, scheduler=scheduler)
    assert_same(small, pair[:1], sampled(small.model, encoded("a city"), empty(), scheduler=scheduler))
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    assert_same(small, pair[1:], sampled(small.model, told, empty(), scheduler=scheduler))
    later = sampled(*edit(cross_end=0.25, self_end=0.0), scheduler=scheduler)
    latest = sampled(*edit(cross_end=0.3, self_end=0.0), scheduler=scheduler)
    assert not torch.equal(pair[1], later[1]) and not torch.equal(later[1], latest[1])


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_pairs_equal_those_through_diffusers(pack, small, edit, sampled, rain, cfg):
    part = pack.part
    schedule = part("aai.soundworld.models").SCHEDULER_CONFIG
    model = part("aai.picture.diffusers").DiffusersPictureModel(
        small.unet, small.tower, small.tokenizer, small.autoencoder, schedule
    )
    Prompt, editing = part("aai.prompt").Prompt, part("aai.inject.edit")
    told = editing.Edit(
        Prompt("a city", (rain,)),
        (Prompt("a city under *", (rain,)),),
        self_window=(0, 0.5),
        self_downscale=1,
        scales=({"rain": 0.5},),
    )
    cond, uncond = editing.encode(model.encode_prompt, told), model.encode_prompt(Prompt("night"))
    expected = model.sample(
        cond, uncond, seeds=[SEED], steps=STEPS, guidance=cfg, width=64, height=64, edit=told
    )
    assert_same(small, sampled(*edit(scale="0.5"), cfg=cfg), expected)


def test_the_model_given_stays_as_it_was(small, edit, encoded, sampled):
    before = sampled(small.model, encoded("a city"), empty())
    sampled(*edit())
    assert "aai_injection" not in small.model.model_options["transformer_options"]
    assert torch.equal(sampled(small.model, encoded("a city"), empty()), before)


def test_several_lines_and_scales_are_several_pictures(small, edit, sampled):
    model, positive, latent = edit(edited_prompt="a city under *\n\na city with *, night")
    assert latent["batch_index"] == [0, 0, 0]
    three = sampled(model, positive, latent)
    assert_same(small, three[:2], sampled(*edit()))
    sweep = sampled(*edit(scale="0, 0.5, 1"))
    assert_same(small, sweep[1:2], sweep[:1])
    assert_same(small, sweep[[0, 3]], three[:2])


def test_several_latents_are_several_pairs(small, edit, encoded, sampled):
    pairs = sampled(*edit(latent=empty(2)))
    assert len(pairs) == 4
    assert_same(small, pairs[[0, 2]], sampled(small.model, encoded("a city"), empty(2)))
    ancestral = sampled(*edit(latent=empty(2)), "euler_ancestral")
    alone = sampled(small.model, encoded("a city"), empty(2), "euler_ancestral")
    assert_same(small, ancestral[[0, 2]], alone)


def test_a_pair_goes_on_enlarged(pack, small, edit, encoded, sampled):
    """Through pixels a pair forgets that it has one noise, and core's node says so again."""
    # It and core's nodes of latents import each other, and this way about it can be done.
    importlib.import_module("comfy_extras.nodes_post_processing")
    from comfy_extras.nodes_latent import LatentBatchSeedBehavior

    model, positive, latent = edit()
    drawn = pictures(small, sampled(model, positive, latent))
    with torch.inference_mode():
        enlarged = {"samples": small.vae.encode(drawn.repeat_interleave(2, 1).repeat_interleave(2, 2))}
        with pytest.raises(pack.part("aai.errors").InputError, match="LatentBatchSeedBehavior"):
            sampled(model, positive, enlarged, denoise=0.5)
        (again,) = LatentBatchSeedBehavior.execute(enlarged, "fixed").args
    pair = sampled(model, positive, again, denoise=0.5)
    source = {"samples": enlarged["samples"][:1]}
    assert_same(small, pair[:1], sampled(small.model, encoded("a city"), source, denoise=0.5))
    assert pair.shape[-1] == 16 and (pair[1] - pair[0]).abs().max() > 1e-3


def test_little_memory_splits_the_batch(small, edit, sampled, monkeypatch):
    whole = sampled(*edit())
    monkeypatch.setattr(type(small.model.model), "memory_required", lambda *_, **__: 1e18)
    assert_same(small, sampled(*edit()), whole)


def test_patches_of_others_stay(small, edit, sampled):
    plain = sampled(*edit())
    calls = []

    def replaced(q, k, v, options):
        from comfy.ldm.modules.attention import optimized_attention

        calls.append(len(q))
        return 0.5 * optimized_attention(q, k, v, options["n_heads"])

    def patched(n, context, value, options):
        calls.append(-len(n))
        return n, context, value

    model = small.model.clone()
    model.set_model_attn2_replace(replaced, "input", 1)
    model.set_model_attn1_patch(patched)
    found = sampled(*edit(model=model))
    # The other's patch sees the whole batch, pair and negative prompt, once a step.
    assert calls.count(4) == STEPS and set(calls) == {4, -4}
    assert not torch.allclose(found, plain, atol=1e-3)
    silent = sampled(*edit(model=model, scale="0"))
    assert_same(small, silent[1:], silent[:1])


def lengthened(small, of):
    """The model beside an attn2 patch that makes another context and value of each."""
    model = small.model.clone()
    model.set_model_attn2_patch(lambda n, context, value, options: (n, of(context), of(value)))
    return model


def test_a_patch_that_repeats_the_conditioning_changes_no_edit(small, edit, sampled):
    given = dict(scale="0.5", blend_words="*", blend_start=0.0)
    twice = edit(model=lengthened(small, lambda x: x.repeat(1, 2, 1)), **given)
    assert_same(small, sampled(*twice), sampled(*edit(**given)))


@pytest.mark.parametrize(
    "of",
    [
        lambda x: torch.cat([x, x[:, :4]], 1),
        lambda x: torch.cat([x, x.flip(1)], 1),
        lambda x: x.repeat_interleave(2, 0),
    ],
    ids=["longer", "another prompt", "more rows"],
)
def test_a_patch_that_changes_the_conditioning_is_refused(pack, run, small, edit, sampled, of):
    model, positive, latent = edit(model=lengthened(small, of), blend_words="*")
    watched = run("AAI_AttentionHeatmap", model=model, conditioning=positive)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="take that node off this model"):
        sampled(watched, positive, latent)


@pytest.fixture(scope="session")
def guided(small):
    """{name: a MODEL with core's guidance of that name}."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    with torch.inference_mode():
        sag = SelfAttentionGuidance.execute(small.model, 0.5, 2.0).args[0]
        return {"SAG": sag, "PAG": PerturbedAttentionGuidance.execute(small.model, 3.0).args[0]}


@pytest.mark.parametrize("name", ["SAG", "PAG"])
def test_guidance_of_others_leaves_what_is_kept(run, small, guided, edit, sampled, name):
    """An inverted picture, and what lies outside a blend's place."""
    model = guided[name]
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=4, null_text=False, guidance=4.0)[0]  # fmt: skip
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    source, edited = sampled(*edit(model=model, latent=inverted, mask=mask))
    assert_same(small, source[None], inverted["samples"])
    assert torch.equal(edited[..., :4], source[..., :4])
    plain = sampled(*edit(latent=inverted, mask=mask))[1]
    assert not torch.allclose(edited[..., 4:], plain[..., 4:], atol=1e-3)


@pytest.mark.parametrize("name", ["SAG", "PAG"])
def test_guidance_of_others_tells_nothing_of_where_words_look(pack, run, guided, edit, sampled, name):
    """The heat map is of the prompt's own passes, one a step, and the blend compares these alone."""
    seen = []
    blend, heat = pack.part("aai.inject.blend").BlendRun, pack.part("aai.inject.heatmap").Heatmap
    with pytest.MonkeyPatch.context() as patch:
        for kind, what in ((blend, "observe"), (blend, "compare"), (heat, "observe")):
            patch.setattr(kind, what, lambda *_, name=(kind, what), **__: seen.append(name))
        counts = []
        for given in ({}, {"model": guided[name]}):
            model, positive, latent = edit(**given, blend_words="*", blend_changes=True)
            watched = run("AAI_AttentionHeatmap", model=model, conditioning=positive)[0]
            seen.clear()
            sampled(watched, positive, latent)
            counts.append({what: seen.count(what) for what in seen})
    assert counts[0] == counts[1] and counts[0][blend, "compare"] == STEPS and len(counts[0]) == 3


def test_a_lora_stays(small, edit, encoded, sampled):
    key = next(k for k in small.model.model.state_dict() if k.endswith("attn2.to_v.weight"))
    weight = small.model.model.state_dict()[key]
    model = small.model.clone()
    model.add_patches({key: (0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)),)})
    pair = sampled(*edit(model=model))
    alone = sampled(model, encoded("a city"), empty())
    assert_same(small, pair[:1], alone)
    assert not torch.allclose(alone, sampled(small.model, encoded("a city"), empty()), atol=1e-3)


def test_a_second_area_is_left_alone(core, small, edit, encoded, sampled):
    model, positive, latent = edit()
    area = core.ConditioningSetArea().append(encoded("fire"), 32, 64, 0, 0, 1.0)[0]
    pair = sampled(model, positive + area, latent)
    assert_same(small, pair[:1], sampled(small.model, encoded("a city") + area, empty()))


def test_an_area_of_ours_leaves_the_negative_prompt_alone(core, small, edit, encoded, sampled):
    """Core gives the negative side a copy of a conditioning with an area, with the negative's own words."""
    model, positive, latent = edit(scale="0.5")
    whole = core.ConditioningSetArea().append(positive, 64, 64, 0, 0, 1.0)[0]
    assert_same(small, sampled(model, whole, latent), sampled(model, positive, latent))


def test_blend_words_of_an_area_are_refused(pack, core, edit, sampled):
    """Its first layer has 8 x 8 places, as many as the one that tells of the whole picture."""
    model, positive, latent = edit(blend_words="*", latent={"samples": torch.zeros(1, 32, 16, 16)})
    area = core.ConditioningSetArea().append(positive, 64, 64, 0, 0, 1.0)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="conditioning without areas"):
        sampled(model, area, latent)


def test_a_prompt_that_is_added_at_the_end_is_left_alone(core, run, small, encoded, sampled, rain):
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    for other in ("fire", "fire " * 80):
        (longer,) = core.ConditioningConcat().concat(told, encoded(other))
        given = dict(model=small.model, conditioning=longer, tokens="", reference=-23.0)
        model = run("AAI_LoudnessReweight", **given, scale="0.5")[0]
        # Only the token's own row is scaled: once where the other prompt follows, and not in it.
        plain, half = sampled(small.model, longer, empty()), sampled(model, longer, empty())
        assert not torch.allclose(plain, half, atol=1e-4)
        assert_same(
            small, sampled(run("AAI_LoudnessReweight", **given, scale="1")[0], longer, empty()), plain
        )


def test_loudness_reweights_a_prompt_and_an_edit(pack, run, small, edit, sampled, rain):
    conditioning = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    given = dict(model=small.model, conditioning=conditioning, tokens="", reference=-23.0)
    model, scale = run("AAI_LoudnessReweight", **given, scale="1")
    plain = sampled(small.model, conditioning, empty())
    assert scale == 1 and torch.allclose(sampled(model, conditioning, empty()), plain, atol=1e-4)
    louder = sampled(run("AAI_LoudnessReweight", **given, scale="2")[0], conditioning, empty())
    assert not torch.allclose(louder, plain, atol=1e-3)
    each = run("AAI_LoudnessReweight", **given, scale="1, 2")[0]
    both = sampled(each, conditioning, {**empty(2), "batch_index": [0, 0]})
    assert_same(small, both, torch.cat([plain, louder]))

    model, positive, latent = edit()
    half = run("AAI_LoudnessReweight", model=model, conditioning=positive, tokens="rain", scale="0.5",
               reference=-23.0)[0]  # fmt: skip
    assert_same(small, sampled(half, positive, latent), sampled(*edit(scale="0.5")))

    tone = torch.sin(torch.arange(48000) * 0.4)[None, None] * 0.01
    audio = {"waveform": tone, "sample_rate": 48000}
    loudness = pack.part("aai.audio").loudness(pack.part("aai.audio").from_tensor(tone, 48000))
    found = run("AAI_LoudnessReweight", **given, scale="", audio=audio)[1]
    assert found == pytest.approx(2 ** ((loudness + 23) / 10)) and 0 < found < 1


def test_loudness_reweights_prompts_that_are_combined(core, run, small, sampled, encoded, rain):
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    other = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a * at night")[0]
    for both in (told + other, told + encoded("a sea")):
        given = dict(model=small.model, conditioning=both, tokens="", reference=-23.0)
        whole, half = (run("AAI_LoudnessReweight", **given, scale=s)[0] for s in ("1", "0.5"))
        plain = sampled(small.model, both, empty())
        assert_same(small, sampled(whole, both, empty()), plain)
        assert not torch.allclose(sampled(half, both, empty()), plain, atol=1e-4)
        (maps,) = run("AAI_AttentionHeatmap", model=small.model, conditioning=both)[1:]
        assert maps.names == ("rain",)


def test_blends_keep_to_a_mask_or_to_words(pack, small, edit, encoded, sampled):
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    source, edited = sampled(*edit(mask=mask))
    assert_same(small, source[None], sampled(small.model, encoded("a city"), empty()))
    assert torch.equal(edited[..., :4], source[..., :4])
    assert not torch.allclose(edited[..., 4:], source[..., 4:], atol=1e-3)
    model, positive, latent = edit(blend_words="*")
    assert_same(small, sampled(model, positive, latent)[:1], source[None])
    # Nothing looks more than its most, so at a threshold of 1 nothing may change.
    attention = pack.part("nodes.comfy.patch")
    told = attention.attached(model)
    nowhere = replace(told, blend=replace(told.blend, start=0.0, threshold=1.0))
    pair = sampled(attention.attach(model, nowhere), positive, latent)
    assert_same(small, pair[1:], pair[:1])


def test_changes_decide_where_the_picture_changes(small, edit, encoded, sampled):
    """At a threshold of 1 no place may change; at 0 each may; between them, some."""
    given = dict(blend_changes=True, blend_start=0.0)
    nowhere = sampled(*edit(**given, blend_threshold=1.0))
    assert_same(small, nowhere[1:], nowhere[:1])
    assert_same(small, nowhere[:1], sampled(small.model, encoded("a city"), empty()))
    assert_same(small, sampled(*edit(**given, blend_threshold=0.0)), sampled(*edit()))
    some = sampled(*edit(**given, blend_threshold=0.8))
    kept = (some[0] == some[1]).all(0).float().mean()
    assert 0 < kept < 1


@pytest.mark.parametrize("nested", [False, True])
def test_changes_are_the_edits_under_any_guider(core, small, edit, encoded, nested):
    """Dual CFG's first prediction is the negative prompt's, in which nothing changes."""
    import comfy.sample
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    def drawn(**blend):
        model, positive, latent = edit(**blend)
        guider = Guider_DualCFG(model)
        with torch.inference_mode():
            guider.set_conds(positive, encoded("a sea"), encoded(""))
            guider.set_cfg(3.0, 2.0, nested=nested)
            noise = comfy.sample.prepare_noise(latent["samples"], SEED, latent["batch_index"])
            sampling = small.model.get_model_object("model_sampling")
            sigmas = core.comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)
            sampler = core.comfy.samplers.sampler_object("euler")
            return guider.sample(noise, latent["samples"], sampler, sigmas, disable_pbar=True, seed=SEED)

    changed = drawn(blend_changes=True, blend_start=0.0, blend_threshold=0.0)
    assert_same(small, changed, drawn())
    assert not torch.allclose(changed[1], changed[0], atol=1e-3)


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({"edited_prompt": "a city"}, "names no sound token"),
        ({"scale": "3"}, "drowns"),
        ({"scale": "loud"}, "no loudness scale"),
        ({"edited_prompt": "a *\nthe *", "scale": "0, 1, 2"}, "do not go with 2"),
        ({"edited_prompt": " "}, "0 edited prompts"),
        ({"blend_words": "sea"}, "'sea' is not in the prompt"),
        ({"mask": torch.zeros(3, 8, 8)}, "3 masks were given for 1"),
        ({"scale": "-0.5"}, "opposite"),
        ({"edited_prompt": "a city under <dog>"}, "no such sound token"),
        ({"cross_end": 1.5}, "cross window 0 to 1.5"),
        ({"self_end": -0.1}, "self window 0 to -0.1"),
        ({"blend_words": "city", "blend_start": 2.0}, "blend start of 2 is no share"),
        ({"blend_changes": True, "blend_threshold": -1.0}, "blend threshold of -1 is no share"),
    ],
)
def test_bad_input_is_one_sentence(pack, edit, inputs, words):
    with pytest.raises(pack.part("aai.errors").InputError, match=words):
        edit(**inputs)


def test_the_same_text_twice_is_the_source_and_more_than_77_words_are_read(small, edit, encoded, sampled):
    model, positive, latent = edit(source_prompt="a city under *")
    assert len(set(positive[0][1]["aai_token_ids"])) == 1
    pair = sampled(model, positive, latent)
    assert_same(small, pair[1:], pair[:1])
    model, positive, latent = edit(edited_prompt="a city " + "fire " * 80 + "*")
    assert positive[0][0].shape[1] == 154
    pair = sampled(model, positive, latent)
    assert_same(small, pair[:1], sampled(small.model, encoded("a city"), empty()))


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


def test_what_does_not_belong_together_is_refused(pack, run, small, edit, encoded, sampled, rain):
    InputError = pack.part("aai.errors").InputError
    model, positive, latent = edit()
    with pytest.raises(InputError, match="draws 2 together"):
        sampled(model, positive, empty())
    with pytest.raises(InputError, match="noise of their own"):
        sampled(model, positive, empty(2))
    with pytest.raises(InputError, match="connect Prompt To Prompt Edit's model"):
        run(
            "AAI_LoudnessReweight",
            model=small.model,
            conditioning=positive,
            tokens="",
            scale="1",
            reference=-23.0,
        )
    with pytest.raises(InputError, match="connect the conditioning of the same node"):
        sampled(model, encoded("a city"), latent)
    given = dict(model=small.model, reference=-23.0)
    with pytest.raises(InputError, match="no sound token"):
        run("AAI_LoudnessReweight", **given, conditioning=encoded("a city"), tokens="", scale="1")
    with pytest.raises(InputError, match="<dog>"):
        run("AAI_LoudnessReweight", **given, conditioning=positive, tokens="dog", scale="1")
    with pytest.raises(InputError, match="neither a scale nor a sound"):
        run("AAI_LoudnessReweight", **given, conditioning=positive, tokens="", scale="")


@pytest.mark.parametrize(
    "sampler, cfg", [("euler", 4.0), ("dpmpp_2m_sde", 4.0), ("euler_ancestral_cfg_pp", 1.0)]
)
def test_an_inverted_picture_is_the_source(pack, run, small, edit, sampled, sampler, cfg):
    picture = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(5))
    picture = picture.repeat_interleave(8, 1).repeat_interleave(8, 2)
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=8, null_text=False, guidance=4.0)[0]  # fmt: skip
    model, positive, latent = edit(latent=inverted)
    pair = sampled(model, positive, latent, sampler, cfg)
    assert_same(small, pair[:1], inverted["samples"])
    assert (pair[1] - pair[0]).abs().max() > 1e-3
    with pytest.raises(pack.part("aai.errors").InputError, match="latents are"):
        sampled(model, positive, {"samples": torch.zeros(2, 32, 8, 16), "batch_index": [0, 0]}, sampler, cfg)


def test_a_photograph_of_a_camera_is_inverted_at_twice_the_models_size(pack, run, small, monkeypatch):
    monkeypatch.setattr(pack.part("nodes.comfy.picture").ComfyPictureModel, "native_size", 32)
    latent = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, prompt="a city",
                 image=torch.rand(1, 300, 400, 3), steps=1, null_text=False, guidance=4.0)[0]  # fmt: skip
    assert latent["samples"].shape[-2:] == (6, 8)


def test_a_second_pass_over_an_inverted_picture_keeps_the_first_ones_edit(run, small, edit, sampled):
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=8, null_text=False, guidance=4.0)[0]  # fmt: skip
    model, positive, latent = edit(latent=inverted)
    first = sampled(model, positive, latent)
    second = sampled(model, positive, {**latent, "samples": first}, denoise=0.05)
    assert_same(small, second[:1], inverted["samples"])
    change = (first[1] - first[0]).abs().mean()
    assert (second[1] - first[1]).abs().mean() < 0.3 * change < (second[1] - second[0]).abs().mean()


@pytest.mark.parametrize("steps, cfg, told", [(4, 4.0, 0), (3, 4.0, 1), (4, 1.0, 1), (3, 1.0, 2)])
def test_null_text_for_another_sampler_is_told(
    run, pack, small, edit, encoded, sampled, caplog, steps, cfg, told
):
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae,
                   image=torch.rand(1, 64, 64, 3), prompt="a city", steps=steps, null_text=False,
                   guidance=4.0)[0]  # fmt: skip
    key = pack.part("nodes.comfy.latent").TRAJECTORY
    trajectory, samples = inverted[key]
    nulls = encoded("")[0][0].expand(steps, -1, -1)
    inverted[key] = replace(trajectory, nulls=nulls, guidance=4.0), samples
    sampled(*edit(latent=inverted), cfg=cfg)
    assert sum("null-text embeddings were made for" in message for message in caplog.messages) == told


def test_null_text_in_a_node(run, small, edit, encoded, core):
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    given = dict(model=small.model, clip=small.clip, vae=small.vae, image=picture, prompt="a city", steps=4,
                 guidance=4.0)  # fmt: skip
    pairs = []
    for null_text in (False, True):
        model, positive, latent = edit(latent=run("AAI_InvertImage", **given, null_text=null_text)[0])
        with torch.inference_mode():
            (made,) = core.common_ksampler(
                model, SEED, STEPS, 4.0, "euler", "normal", positive, encoded(""), latent
            )
        pairs.append(made["samples"])
    assert_same(small, pairs[0][:1], pairs[1][:1])
    assert not torch.allclose(pairs[0][1], pairs[1][1], atol=1e-3)
    assert all(p.is_inference() for p in small.model.model.diffusion_model.parameters())


def test_an_inversion_can_be_cancelled(run, small):
    from comfy import model_management

    picture = torch.rand(1, 64, 64, 3)
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
            prompt="a city", steps=8, null_text=False, guidance=4.0)  # fmt: skip
    model_management.interrupt_current_processing(False)
