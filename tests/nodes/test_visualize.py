"""Heat maps and comparisons in ComfyUI: they leave the picture as it is."""

from __future__ import annotations

import json

import pytest
import torch

STEPS = 3


@pytest.fixture(scope="module")
def token(pack):
    generator = torch.Generator().manual_seed(2)
    vectors = {"clip_l": torch.randn(1, 192, generator=generator) * 0.4}
    return pack.part("aai.token").SoundToken("fire", vectors)


@pytest.fixture(scope="module")
def draw(small):
    def sample(model, positive, latent, cfg=3.0, sampler="euler"):
        from nodes import CLIPTextEncode, common_ksampler

        with torch.inference_mode():
            negative = CLIPTextEncode().encode(small.clip, "")[0]
            return common_ksampler(model, 1, STEPS, cfg, sampler, "normal", positive, negative, latent)[0]

    return sample


@pytest.fixture
def shown(pack):
    """shown("AAI_DrawHeatmap", ...) -> the node's outputs and what it tells the front end."""

    def call(node_id, **inputs):
        with torch.inference_mode():
            output = pack.nodes[node_id].PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs)
        return output.args, output.ui

    return call


def empty(count: int, side: int = 16) -> dict:
    return {"samples": torch.zeros(count, 32, side, side)}


def test_a_watched_model_draws_the_same_picture_to_the_bit(run, small, token, draw, shown):
    positive = run("AAI_SoundTokenConditioning", clip=small.clip, token=token, prompt="a city under *")[0]
    model, maps = run("AAI_AttentionHeatmap", model=small.model, conditioning=positive)
    watched = draw(model, positive, empty(2))["samples"]
    assert torch.equal(watched, draw(small.model, positive, empty(2))["samples"])
    looked = maps.maps()
    assert looked.shape == (1, 2, 16, 16) and looked.min() > 0
    (overlays, mask), ui = shown("AAI_DrawHeatmap", maps=maps, images=torch.rand(2, 128, 96, 3), opacity=0.6)
    assert overlays.shape == (2, 128, 96, 3) and mask.shape == (2, 128, 96)
    assert overlays.min() >= 0 and overlays.max() <= 1 and mask.max() > 0.9
    assert [h["token"] for h in ui["heatmaps"]] == ["fire", "fire"]


def test_an_edits_source_has_no_heat_and_its_pictures_stay(run, small, token, draw, shown):
    model, positive, latent = run(
        "AAI_PromptToPromptEdit", model=small.model, clip=small.clip, token=token, latent=empty(1),
        source_prompt="a city", edited_prompt="a city under *", scale="0.5, 1", windows="as set below",
        cross_end=0.8, self_end=0.4, self_downscale=4, silence="full",
    )  # fmt: skip
    watched, maps = run("AAI_AttentionHeatmap", model=model, conditioning=positive)
    drawn = draw(watched, positive, latent)["samples"]
    assert torch.equal(drawn, draw(model, positive, latent)["samples"])
    (overlays, mask), ui = shown(
        "AAI_DrawHeatmap", maps=maps, images=(images := torch.rand(3, 64, 64, 3)), opacity=1.0
    )
    assert torch.equal(overlays[0], images[0]) and not mask[0].any() and mask[1].any()
    assert len(ui["heatmaps"]) == 2
    # The other way about too: loudness may be set after the heat map.
    louder = run(
        "AAI_LoudnessReweight", model=watched, conditioning=positive, tokens="", scale="2", reference=-23.0
    )[0]
    assert not torch.equal(draw(louder, positive, latent)["samples"][1:], drawn[1:])
    assert maps.pictures == 3 and maps.maps()[0, 0].max() == 0


def test_a_cancelled_sampling_leaves_the_heat_map_of_the_picture_that_is_there(run, small, token, draw):
    from comfy import model_management

    positive = run("AAI_SoundTokenConditioning", clip=small.clip, token=token, prompt="a city under *")[0]
    model, maps = run("AAI_AttentionHeatmap", model=small.model, conditioning=positive)
    draw(model, positive, empty(2))
    before = maps.maps()
    model.add_wrapper_with_key(
        "diffusion_model", "stop", lambda executor, *args, **kwargs: stop(executor(*args, **kwargs))
    )

    def stop(predicted):
        raise model_management.InterruptProcessingException

    with pytest.raises(model_management.InterruptProcessingException):
        draw(model, positive, empty(1))
    assert maps.pictures == 2 and torch.equal(maps.maps(), before)


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_that_were_not_sampled_with_it_are_refused(pack, run, small, token, draw, shown, count):
    positive = run("AAI_SoundTokenConditioning", clip=small.clip, token=token, prompt="*")[0]
    model, maps = run("AAI_AttentionHeatmap", model=small.model, conditioning=positive)
    error = pack.part("aai.errors").InputError
    with pytest.raises(error, match="No picture has been sampled"):
        shown("AAI_DrawHeatmap", maps=maps, images=torch.rand(2, 64, 64, 3), opacity=0.6)
    draw(model, positive, empty(2), cfg=1.0)
    with pytest.raises(error, match="2 pictures"):
        shown("AAI_DrawHeatmap", maps=maps, images=torch.rand(count, 64, 64, 3), opacity=0.6)


def test_a_conditioning_without_a_sound_is_refused(pack, run, small):
    from nodes import CLIPTextEncode

    with torch.inference_mode():
        plain = CLIPTextEncode().encode(small.clip, "a city")[0]
    with pytest.raises(pack.part("aai.errors").InputError, match="no sound token"):
        run("AAI_AttentionHeatmap", model=small.model, conditioning=plain)


def test_pictures_are_compared_with_their_source(pack, shown):
    images = torch.rand(3, 32, 32, 3)
    _, ui = shown("AAI_CompareImages", images=images)
    assert len(ui["pairs"]) == 2 and ui["pairs"][0]["before"] == ui["pairs"][1]["before"]
    _, ui = shown("AAI_CompareImages", images=images, edited=images)
    assert len({pair["before"]["filename"] for pair in ui["pairs"]}) == 3
    with pytest.raises(pack.part("aai.errors").InputError, match="one picture only"):
        shown("AAI_CompareImages", images=images[:1])


def test_every_edit_is_compared_with_its_own_source(pack, shown, monkeypatch):
    monkeypatch.setattr(pack.part("nodes.visualize"), "previews", lambda images: images.flatten().tolist())

    def pairs(*given, **more):
        images = (torch.tensor(numbers)[:, None, None, None] for numbers in given)
        found = shown("AAI_CompareImages", **dict(zip(("images", "edited"), images)), **more)[1]["pairs"]
        return [(pair["before"], pair["after"]) for pair in found]

    # Of two latents, each with two edited pictures.
    assert pairs([0, 1, 2, 10, 11, 12], group_size=3) == [(0, 1), (0, 2), (10, 11), (10, 12)]
    assert pairs([0, 10], [1, 2, 11, 12]) == [(0, 1), (0, 2), (10, 11), (10, 12)]
    assert pairs([0, 10], [1, 11], group_size=3) == [(0, 1), (10, 11)]
    assert pairs([0, 1], [1]) == [(0, 1)] and pairs([0], [1, 2]) == [(0, 1), (0, 2)]
    with pytest.raises(pack.part("aai.errors").InputError, match="6 pictures are no groups of 4"):
        pairs([0, 1, 2, 10, 11, 12], group_size=4)


def test_what_the_nodes_tell_the_front_end_is_json(pack, run, small, token, ear, shown):
    sound = {"waveform": torch.randn(1, 2, 16000) * 0.1, "sample_rate": 16000}
    _, ui = shown("AAI_EncodeSound", sound_encoder=ear, audio=sound, count=1)
    assert len(ui["words"]) == 5 and ui["words"][0]["score"] >= ui["words"][-1]["score"]
    assert ui["parts"] == []
    mixed, _ = pack.part("aai.soundworld.evaluate.hearing").mixed("rain", "rooster", 5.0, 3)
    both = {"waveform": mixed.waveform[None], "sample_rate": mixed.rate}
    world = pack.part("aai.soundworld.loaders").load_sound_encoder()
    _, apart = shown("AAI_EncodeSound", sound_encoder=world, audio=both, count=1, sounds=2)
    assert {part["word"] for part in apart["parts"]} == {"rain", "a rooster"}
    assert sum(part["share"] for part in apart["parts"]) == pytest.approx(1)
    positive = run("AAI_SoundTokenConditioning", clip=small.clip, token=token, prompt="*")[0]
    common = {"model": small.model, "conditioning": positive, "tokens": "", "reference": -23.0}
    (_, scale), loud = shown("AAI_LoudnessReweight", scale="", audio=sound, **common)
    assert loud["loudness"][0]["scales"] == [scale] and -40 < loud["loudness"][0]["loudness"] < 0
    silence = {**sound, "waveform": torch.zeros(1, 1, 16000)}
    _, quiet = shown("AAI_LoudnessReweight", scale="", audio=silence, **common)
    assert quiet["loudness"][0]["scales"] == [0.0]
    _, typed = shown("AAI_LoudnessReweight", scale="0, 2", **common)
    assert typed["loudness"][0]["loudness"] is None and typed["loudness"][0]["scales"] == [0.0, 2.0]
    for told in (ui, apart, loud, quiet, typed):
        json.dumps(told, allow_nan=False)
