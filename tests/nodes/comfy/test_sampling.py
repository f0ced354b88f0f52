"""Pairs through core's samplers: the source is what it would be alone, whatever samples them."""

from __future__ import annotations

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


def test_the_list_of_samplers_is_cores(core):
    known = set(core.comfy.samplers.SAMPLER_NAMES)
    assert known - set(SAMPLERS) == {"dpm_adaptive"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_source_as_alone(
    core, small, edit, encoded, sampled, sampler, empty, assert_same
):
    if sampler not in core.comfy.samplers.SAMPLER_NAMES:
        pytest.skip(f"this ComfyUI has no {sampler}")
    model, positive, latent = edit()
    pair = sampled(model, positive, latent, sampler)
    alone = sampled(small.model, encoded("a city"), empty(), sampler)
    assert_same(pair[:1], alone)
    assert (pair[1] - pair[0]).abs().max() > 1e-3
    silent, positive, latent = edit(scale="0")
    pair = sampled(silent, positive, latent, sampler)
    assert_same(pair[1:], pair[:1])


def test_lazy_cache_beside_an_edit_is_refused(pack, edit, sampled):
    nodes_easycache = pytest.importorskip("comfy_extras.nodes_easycache")
    model, positive, latent = edit()
    lazy = nodes_easycache.LazyCacheNode.execute(model, 0.2, 0.1, 0.9, False)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="take LazyCache out"):
        sampled(lazy, positive, latent, "euler")


def test_mahiro_beside_an_edit_is_refused(pack, edit, sampled, comfy):
    nodes_mahiro = pytest.importorskip("comfy_extras.nodes_mahiro")
    model, positive, latent = edit()
    node = nodes_mahiro.Mahiro
    guided = node.execute(model)[0] if hasattr(node, "execute") else node().patch(model)[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="take Mahiro out"):
        sampled(guided, positive, latent, "euler")


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde"])
def test_an_edit_with_no_step_left_is_what_it_was(core, edit, encoded, sampler):
    """SplitSigmas at the last step leaves its second half none."""
    from comfy.samplers import CFGGuider

    model, positive, latent = edit()
    drawn = torch.randn_like(latent["samples"][:1]).repeat_interleave(len(latent["samples"]), 0)
    with torch.inference_mode():
        guider = CFGGuider(model)
        guider.set_conds(positive, encoded(""))
        chosen = core.comfy.samplers.sampler_object(sampler)
        left = guider.sample(torch.zeros_like(drawn), drawn, chosen, torch.zeros(1), seed=SEED)
    torch.testing.assert_close(left.cpu(), drawn)


def test_an_inverted_picture_with_no_step_left_is_what_it_was(core, run, small, edit, encoded):
    """Whatever noise there is: none of it fits at sigma 0."""
    from comfy.samplers import CFGGuider

    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=4, null_text=False, guidance=4.0)[0]  # fmt: skip
    model, positive, latent = edit(latent=inverted)
    noise = torch.randn_like(latent["samples"][:1]).expand_as(latent["samples"])
    with torch.inference_mode():
        guider = CFGGuider(model)
        guider.set_conds(positive, encoded(""))
        euler = core.comfy.samplers.sampler_object("euler")
        left = guider.sample(noise, latent["samples"], euler, torch.zeros(1), seed=SEED)
    torch.testing.assert_close(left.cpu(), latent["samples"])


def test_dpm_adaptive_is_refused(pack, edit, sampled):
    model, positive, latent = edit()
    with pytest.raises(pack.part("aai.errors").InputError, match="dpm_adaptive chooses its steps"):
        sampled(model, positive, latent, "dpm_adaptive")


@pytest.mark.parametrize("scheduler", ["simple", "karras", "exponential", "sgm_uniform", "beta"])
def test_windows_mean_the_same_for_every_scheduler(
    run, small, rain, edit, encoded, sampled, scheduler, empty, assert_same
):
    """With every window shut the edited picture is the plain one; shut after the last step, it is not."""
    model, positive, latent = edit(cross_end=0.0, self_end=0.0)
    pair = sampled(model, positive, latent, scheduler=scheduler)
    assert_same(pair[:1], sampled(small.model, encoded("a city"), empty(), scheduler=scheduler))
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    assert_same(pair[1:], sampled(small.model, told, empty(), scheduler=scheduler))
    later = sampled(*edit(cross_end=0.25, self_end=0.0), scheduler=scheduler)
    latest = sampled(*edit(cross_end=0.3, self_end=0.0), scheduler=scheduler)
    assert not torch.equal(pair[1], later[1]) and not torch.equal(later[1], latest[1])


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_pairs_equal_those_through_diffusers(pack, small, edit, sampled, rain, cfg, assert_same):
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
    assert_same(sampled(*edit(scale="0.5"), cfg=cfg), expected)


@pytest.fixture(scope="session")
def guided(small):
    """{name: a MODEL with core's guidance of that name}."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    with torch.inference_mode():
        sag = SelfAttentionGuidance.execute(small.model, 0.5, 2.0).args[0]
        return {"SAG": sag, "PAG": PerturbedAttentionGuidance.execute(small.model, 3.0).args[0]}


@pytest.mark.parametrize("name", ["SAG", "PAG"])
def test_guidance_of_others_leaves_what_is_kept(run, small, guided, edit, sampled, name, assert_same):
    """An inverted picture, and what lies outside a blend's place."""
    model = guided[name]
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=4, null_text=False, guidance=4.0)[0]  # fmt: skip
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    source, edited = sampled(*edit(model=model, latent=inverted, mask=mask))
    assert_same(source[None], inverted["samples"])
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


def test_a_second_area_is_left_alone(core, small, edit, encoded, sampled, empty, assert_same):
    model, positive, latent = edit()
    area = core.ConditioningSetArea().append(encoded("fire"), 32, 64, 0, 0, 1.0)[0]
    pair = sampled(model, positive + area, latent)
    assert_same(pair[:1], sampled(small.model, encoded("a city") + area, empty()))


def test_an_area_of_ours_leaves_the_negative_prompt_alone(core, small, edit, encoded, sampled, assert_same):
    """Core gives the negative side a copy of a conditioning with an area, with the negative's own words."""
    model, positive, latent = edit(scale="0.5")
    whole = core.ConditioningSetArea().append(positive, 64, 64, 0, 0, 1.0)[0]
    assert_same(sampled(model, whole, latent), sampled(model, positive, latent))


def test_a_prompt_that_is_added_at_the_end_is_left_alone(
    core, run, small, encoded, sampled, rain, empty, assert_same
):
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    for other in ("fire", "fire " * 80):
        (longer,) = core.ConditioningConcat().concat(told, encoded(other))
        given = dict(model=small.model, conditioning=longer, tokens="", reference=-23.0)
        model = run("AAI_LoudnessReweight", **given, scale="0.5")[0]
        # Only the token's own row is scaled: once where the other prompt follows, and not in it.
        plain, half = sampled(small.model, longer, empty()), sampled(model, longer, empty())
        assert not torch.allclose(plain, half, atol=1e-4)
        assert_same(sampled(run("AAI_LoudnessReweight", **given, scale="1")[0], longer, empty()), plain)


@pytest.mark.parametrize("nested", [False, True])
def test_changes_are_the_edits_under_any_guider(core, small, edit, encoded, nested, assert_same):
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
    assert_same(changed, drawn())
    assert not torch.allclose(changed[1], changed[0], atol=1e-3)


def test_a_second_pass_over_an_inverted_picture_keeps_the_first_ones_edit(
    run, small, edit, sampled, assert_same
):
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=8, null_text=False, guidance=4.0)[0]  # fmt: skip
    model, positive, latent = edit(latent=inverted)
    first = sampled(model, positive, latent)
    second = sampled(model, positive, {**latent, "samples": first}, denoise=0.05)
    assert_same(second[:1], inverted["samples"])
    change = (first[1] - first[0]).abs().mean()
    assert (second[1] - first[1]).abs().mean() < 0.3 * change < (second[1] - second[0]).abs().mean()
