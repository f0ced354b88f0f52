"""The nodes that inject: edits and inverted pictures, through core's KSampler."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

STEPS, SEED = 4, 7


def test_several_lines_and_scales_are_several_pictures(edit, sampled, assert_same):
    model, positive, latent = edit(edited_prompt="a city under *\n\na city with *, night")
    assert latent["batch_index"] == [0, 0, 0]
    three = sampled(model, positive, latent)
    assert_same(three[:2], sampled(*edit()))
    sweep = sampled(*edit(scale="0, 0.5, 1"))
    assert_same(sweep[1:2], sweep[:1])
    assert_same(sweep[[0, 3]], three[:2])


def test_blends_keep_to_a_mask_or_to_words(pack, small, edit, encoded, sampled, empty, assert_same):
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    source, edited = sampled(*edit(mask=mask))
    assert_same(source[None], sampled(small.model, encoded("a city"), empty()))
    assert torch.equal(edited[..., :4], source[..., :4])
    assert not torch.allclose(edited[..., 4:], source[..., 4:], atol=1e-3)
    model, positive, latent = edit(blend_words="*")
    assert_same(sampled(model, positive, latent)[:1], source[None])
    # Nothing looks more than its most, so at a threshold of 1 nothing may change.
    attention = pack.part("nodes.comfy.patch")
    told = attention.attached(model)
    nowhere = replace(told, blend=replace(told.blend, start=0.0, threshold=1.0))
    pair = sampled(attention.attach(model, nowhere), positive, latent)
    assert_same(pair[1:], pair[:1])


def test_changes_decide_where_the_picture_changes(small, edit, encoded, sampled, empty, assert_same):
    """At a threshold of 1 no place may change; at 0 each may; between them, some."""
    given = dict(blend_changes=True, blend_start=0.0)
    nowhere = sampled(*edit(**given, blend_threshold=1.0))
    assert_same(nowhere[1:], nowhere[:1])
    assert_same(nowhere[:1], sampled(small.model, encoded("a city"), empty()))
    assert_same(sampled(*edit(**given, blend_threshold=0.0)), sampled(*edit()))
    some = sampled(*edit(**given, blend_threshold=0.8))
    kept = (some[0] == some[1]).all(0).float().mean()
    assert 0 < kept < 1


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


def test_the_same_text_twice_is_the_source_and_more_than_77_words_are_read(
    small, edit, encoded, sampled, empty, assert_same
):
    model, positive, latent = edit(source_prompt="a city under *")
    assert len(set(positive[0][1]["aai_token_ids"])) == 1
    pair = sampled(model, positive, latent)
    assert_same(pair[1:], pair[:1])
    model, positive, latent = edit(edited_prompt="a city " + "fire " * 80 + "*")
    assert positive[0][0].shape[1] == 154
    pair = sampled(model, positive, latent)
    assert_same(pair[:1], sampled(small.model, encoded("a city"), empty()))


@pytest.mark.parametrize("silence", ["full", "literal"])
def test_an_edit_of_weights_alone_changes_the_picture(edit, sampled, silence, assert_same):
    """Token ids are those of the source, and weights are in none of them."""
    given = dict(source_prompt="a city under *", silence=silence)
    model, positive, latent = edit(**given, edited_prompt="a city under (*:1.6)")
    pair = sampled(model, positive, latent)
    assert (pair[1] - pair[0]).abs().max() > 1e-3
    model, positive, latent = edit(**given, edited_prompt=" A  city under *")
    pair = sampled(model, positive, latent)
    assert_same(pair[1:], pair[:1])


def test_what_does_not_belong_together_is_refused(pack, run, small, edit, encoded, sampled, rain, empty):
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
def test_an_inverted_picture_is_the_source(pack, run, small, edit, sampled, sampler, cfg, assert_same):
    picture = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(5))
    picture = picture.repeat_interleave(8, 1).repeat_interleave(8, 2)
    inverted = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, image=picture,
                   prompt="a city", steps=8, null_text=False, guidance=4.0)[0]  # fmt: skip
    model, positive, latent = edit(latent=inverted)
    pair = sampled(model, positive, latent, sampler, cfg)
    assert_same(pair[:1], inverted["samples"])
    assert (pair[1] - pair[0]).abs().max() > 1e-3
    sweep = sampled(*edit(latent=inverted, scale="0, 0.01, 1"), sampler, cfg)
    assert_same(sweep[1:2], inverted["samples"])
    assert_same(sweep[3:], pair[1:])
    # What is hardly heard hardly changes the photograph.
    assert (sweep[2] - sweep[1]).abs().max() < (sweep[3] - sweep[1]).abs().max() / 10
    twice = {**inverted, "samples": inverted["samples"].repeat(2, 1, 1, 1)}
    with pytest.raises(pack.part("aai.errors").InputError, match="repeated, cut or resized"):
        edit(latent=twice)
    with pytest.raises(pack.part("aai.errors").InputError, match="latents are"):
        sampled(model, positive, {"samples": torch.zeros(2, 32, 8, 16), "batch_index": [0, 0]}, sampler, cfg)


def test_a_photograph_of_a_camera_is_inverted_at_twice_the_models_size(pack, run, small, monkeypatch):
    monkeypatch.setattr(pack.part("nodes.comfy.picture").ComfyPictureModel, "native_size", 32)
    latent = run("AAI_InvertImage", model=small.model, clip=small.clip, vae=small.vae, prompt="a city",
                 image=torch.rand(1, 300, 400, 3), steps=1, null_text=False, guidance=4.0)[0]  # fmt: skip
    assert latent["samples"].shape[-2:] == (6, 8)


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


def test_null_text_in_a_node(run, small, edit, encoded, core, assert_same):
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
    assert_same(pairs[0][:1], pairs[1][:1])
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


def test_tiles_beside_each_other_are_told(small, edit, sampled, pack):
    """As Tiled Diffusion draws them."""
    model, positive, latent = edit()

    def tiled(apply, given):
        x, t, c = given["input"], given["timestep"], given["c"]
        twice = {k: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v for k, v in c.items()}
        return apply(torch.cat([x, x]), torch.cat([t, t]), **twice)[: len(x)]

    model.set_model_unet_function_wrapper(tiled)
    with pytest.raises(pack.part("aai.errors").InputError, match="tile_batch_size to 1"):
        sampled(model, positive, latent)
