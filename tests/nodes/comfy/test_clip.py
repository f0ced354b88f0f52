"""Prompts with sound tokens and plain texts through ComfyUI's CLIP, against core's own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close


def test_positions_and_chunks(picture, pack, make_token):
    Prompt = pack.part("aai.prompt").Prompt
    one, two = make_token("rain", 2), make_token("dog", 1, seed=1)
    cond = picture.encode_prompt(Prompt("a photo of <rain> with <dog>, <rain>", (one, two)))
    # start, a, photo, of, rain, rain, with, dog, comma, rain, rain
    assert cond.positions == {"rain": [4, 5, 9, 10], "dog": [7]}
    assert cond.cross.shape == (1, 77, 192)
    long = picture.encode_prompt(Prompt("rain " * 80 + "<dog>", (two,)))
    assert long.cross.shape == (1, 154, 192) and long.positions["dog"] == [77 + 6]


def test_weights_in_prompts_work_as_in_core(picture, small, pack, make_token):
    clip = pack.part("nodes.comfy.clip")
    Prompt = pack.part("aai.prompt").Prompt
    pairs, _ = clip.tokenize(small.clip, Prompt("(a photo of *:1.3), night", (make_token(),)))
    weights = [weight for _, weight in pairs["l"][0]]
    assert weights[:7] == [1.0, 1.3, 1.3, 1.3, 1.3, 1.0, 1.0]
    assert torch.is_tensor(pairs["l"][0][4][0])


def test_a_tokenizer_of_more_encoders_than_the_clip_says_nothing(pack, comfy, make_token, caplog):
    """As the XL refiner's."""
    from comfy.sdxl_clip import SDXLTokenizer

    tower = torch.nn.Module()
    tower.clip_g = torch.nn.Module()
    tower.clip_g.transformer = SimpleNamespace(get_input_embeddings=lambda: torch.nn.Embedding(1, 8))
    clip = SimpleNamespace(cond_stage_model=tower, tokenizer=SDXLTokenizer())
    token = make_token("rain", 2, width=8)
    prompt = pack.part("aai.prompt").Prompt(
        "a city under *, at night", (replace(token, vectors={"clip_g": token.vectors["clip_l"]}),)
    )
    pairs, token_ids = pack.part("nodes.comfy.clip").tokenize(clip, prompt)
    assert pack.part("aai.prompt").token_positions(token_ids) == {"rain": [4, 5]}
    assert [torch.is_tensor(piece) for piece, _ in pairs["g"][0][3:7]] == [False, True, True, False]
    # What no encoder reads is the prompt without the sound.
    assert pairs["l"] == SDXLTokenizer().clip_l.tokenize_with_weights("a city under , at night")
    assert "does not exist" not in caplog.text


def test_a_saved_token_is_cores_embedding(picture, small, pack, make_token, comfy):
    import folder_paths

    token = make_token("parity", 2)
    token.save(f"{folder_paths.get_folder_paths('embeddings')[0]}/parity.safetensors")
    ours = picture.encode_prompt(pack.part("aai.prompt").Prompt("a city under *, at night", (token,)))
    with torch.inference_mode():
        core = small.clip.encode_from_tokens(small.clip.tokenize("a city under embedding:parity , at night"))
    assert_close(ours.cross, core, atol=1e-5, rtol=0)


def test_a_token_of_another_width_is_refused(picture, pack, make_token):
    prompt = pack.part("aai.prompt").Prompt("a photo of *", (make_token("wide", width=768),))
    with pytest.raises(pack.part("aai.errors").InputError, match="'wide'.*768.*192"):
        picture.encode_prompt(prompt)


def test_the_tower_is_the_text_encoders_own(pack, small):
    texts = ["rain in the city", "a dog", "a photo of rain, heavy and dark " * 20]
    tower = pack.part("nodes.comfy.clip").ClipTower(small.clip)
    reader = pack.part("aai.soundworld.text").CaptionEncoder(small.tokenizer, small.tower)
    embedded = tower.embed(texts)
    assert tower.name == "clip_l 192" and embedded.shape == (3, tower.dim) and not embedded.is_inference()
    assert_close(embedded[:2], reader.embed(texts[:2]), atol=1e-4, rtol=1e-4)
    assert tower.embed([]).shape == (0, 192)


def test_the_tower_is_not_projected(pack, small):
    """As in Stable Diffusion XL's clip_g, whose projection is none of one to one."""
    tower = pack.part("nodes.comfy.clip").ClipTower(small.clip)
    before = tower.embed(["rain"])
    model = small.clip.cond_stage_model.clip_l
    held, kept = model.transformer.text_projection._parameters, model.options_default
    weight = held["weight"]
    held["weight"] = torch.nn.Parameter(3 * weight.clone(), requires_grad=False)
    model.options_default = (*kept[:2], True)
    try:
        assert torch.equal(tower.embed(["rain"]), before)
        with torch.inference_mode():
            ids = [[piece for piece, *_ in small.clip.tokenize("rain")["l"][0]]]
            projected = model(ids)[1]
        assert_close(projected, 3 * before)
    finally:
        held["weight"], model.options_default = weight, kept
        model.reset_clip_options()


def test_clip_skip_and_the_prompts_are_let_alone(pack, small):
    tower = pack.part("nodes.comfy.clip").ClipTower
    skipped = small.clip.clone()
    skipped.clip_layer(-2)
    assert_close(tower(skipped).embed(["rain"]), tower(small.clip).embed(["rain"]))
    with torch.inference_mode():
        before = small.clip.encode_from_tokens(small.clip.tokenize("rain"), return_pooled=True)
        tower(small.clip).embed(["a dog"])
        after = small.clip.encode_from_tokens(small.clip.tokenize("rain"), return_pooled=True)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_a_deep_copy_of_a_conditioning_copies_no_text_encoder(small, pack):
    import copy

    clip = pack.part("nodes.comfy.clip")
    prompt = pack.part("aai.prompt").Prompt("rain")
    written = clip.Written(small.clip, (prompt,))
    assert copy.deepcopy({clip.PROMPTS: written})[clip.PROMPTS].clip is small.clip


def test_an_edits_conditioning_keeps_its_clips_hooks(small, edit, pack):
    clip = small.clip.clone()
    clip.apply_hooks_to_conds = hooks = object()
    assert edit(clip=clip)[1][0][1]["hooks"] is hooks
    clip.use_clip_schedule = True
    clip.patcher.forced_hooks = hooks
    with pytest.raises(pack.part("aai.errors").InputError, match="schedule_clip"):
        edit(clip=clip)
