"""Loudness Reweight, of sounds and of words, through core's KSampler."""

from __future__ import annotations

import pytest
import torch


def test_loudness_reweights_a_prompt_and_an_edit(pack, run, small, edit, sampled, rain, empty, assert_same):
    conditioning = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    given = dict(model=small.model, conditioning=conditioning, tokens="", reference=-23.0)
    model, scale = run("AAI_LoudnessReweight", **given, scale="1")
    plain = sampled(small.model, conditioning, empty())
    assert scale == 1 and torch.allclose(sampled(model, conditioning, empty()), plain, atol=1e-4)
    louder = sampled(run("AAI_LoudnessReweight", **given, scale="2")[0], conditioning, empty())
    assert not torch.allclose(louder, plain, atol=1e-3)
    each = run("AAI_LoudnessReweight", **given, scale="1, 2")[0]
    both = sampled(each, conditioning, {**empty(2), "batch_index": [0, 0]})
    assert_same(both, torch.cat([plain, louder]))

    model, positive, latent = edit()
    half = run("AAI_LoudnessReweight", model=model, conditioning=positive, tokens="rain", scale="0.5",
               reference=-23.0)[0]  # fmt: skip
    assert_same(sampled(half, positive, latent), sampled(*edit(scale="0.5")))

    tone = torch.sin(torch.arange(48000) * 0.4)[None, None] * 0.01
    audio = {"waveform": tone, "sample_rate": 48000}
    loudness = pack.part("aai.audio").loudness(pack.part("aai.audio").from_tensor(tone, 48000))
    found = run("AAI_LoudnessReweight", **given, scale="", audio=audio)[1]
    assert found == pytest.approx(2 ** ((loudness + 23) / 10)) and 0 < found < 1


def test_loudness_reweights_prompts_that_are_combined(
    core, run, small, sampled, encoded, rain, empty, assert_same
):
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city under *")[0]
    other = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a * at night")[0]
    for both in (told + other, told + encoded("a sea")):
        given = dict(model=small.model, conditioning=both, tokens="", reference=-23.0)
        whole, half = (run("AAI_LoudnessReweight", **given, scale=s)[0] for s in ("1", "0.5"))
        plain = sampled(small.model, both, empty())
        assert_same(sampled(whole, both, empty()), plain)
        assert not torch.allclose(sampled(half, both, empty()), plain, atol=1e-4)
        (maps,) = run("AAI_AttentionHeatmap", model=small.model, conditioning=both)[1:]
        assert maps.names == ("rain",)


def test_words_are_weighed_with_and_without_an_edit(
    run, small, edit, sampled, rain, empty, assert_same, pack
):
    prompt = "a city with fire under *"
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt=prompt)[0]
    given = dict(model=small.model, conditioning=told, tokens="fire", reference=-23.0)
    plain = sampled(small.model, told, empty())

    def weighed(scale, **changes):
        return run("AAI_LoudnessReweight", **{**given, **changes}, scale=scale)[0]

    assert torch.equal(sampled(weighed("1"), told, empty()), plain)
    half, none = (sampled(weighed(scale), told, empty()) for scale in ("0.5", "0"))
    assert (none - plain).abs().max() > (half - plain).abs().max() > 1e-4
    both = sampled(weighed("0.5, 0"), told, {**empty(2), "batch_index": [0, 0]})
    assert_same(both, torch.cat([half, none]))
    # Beside a sound's own weight, which stays eq. 8.
    mixed = sampled(weighed("0.5", tokens="fire, rain"), told, empty())
    after = weighed("0.5", tokens="rain", model=weighed("0.5"))
    assert_same(mixed, sampled(after, told, empty()))

    model, positive, latent = edit(edited_prompt=prompt)
    pair = sampled(model, positive, latent)
    found = sampled(weighed("0", model=model, conditioning=positive), positive, latent)
    assert_same(found[:1], pair[:1])
    assert (found[1] - pair[1]).abs().max() > 1e-4
    InputError = pack.part("aai.errors").InputError
    with pytest.raises(InputError, match="nor the word 'sea'"):
        weighed("0", tokens="sea")
    model, positive, _ = edit(edited_prompt=f"{prompt}\na city with fire under (*:1.4)")
    with pytest.raises(InputError, match="differ in their weights alone"):
        weighed("0", model=model, conditioning=positive)


@pytest.fixture
def moves(pack, monkeypatch):
    """How far words' weights have moved the conditioning, each time that they did."""
    attention, seen = pack.part("nodes.comfy.attention"), []
    inner = attention.with_words

    def recorded(context, *rest):
        worded = inner(context, *rest)
        if worded is not None:
            seen.append(worded - context)
        return worded

    monkeypatch.setattr(attention, "with_words", recorded)
    return seen


@pytest.mark.parametrize("added", ["", "a dog"])
def test_a_word_is_weighed_in_all_that_core_repeats(run, small, core, rain, empty, encoded, moves, added):
    """Core repeats a conditioning, with what Conditioning Concat adds, to the length of a longer negative
    one's."""
    told = run("AAI_SoundTokenConditioning", clip=small.clip, token=rain, prompt="a city with fire under *")[
        0
    ]
    length = told[0][0].shape[1]
    if added:
        (told,) = core.ConditioningConcat().concat(told, encoded(added))
    model = run("AAI_LoudnessReweight", model=small.model, conditioning=told, tokens="fire", reference=-23.0,
                scale="0")[0]  # fmt: skip
    negative = encoded("night rain " * (80 if added else 45))
    assert negative[0][0].shape[1] == length * (3 if added else 2)
    with torch.inference_mode():
        core.common_ksampler(model, 1, 1, 4.0, "euler", "normal", told, negative, empty(), denoise=1.0)
    whole = told[0][0].shape[1]
    assert moves
    for change in moves:
        changed = change[change.abs().amax((1, 2)) > 0]
        assert changed.shape[1] == (6 if added else 2) * length
        first, *others = changed.split(whole, 1)
        assert others and first[:, :length].abs().max() > 0 and not first[:, length:].any()
        for other in others:
            torch.testing.assert_close(first, other, atol=1e-6, rtol=0)


def test_a_word_of_an_edit_of_two_lengths_is_weighed_in_all_that_core_repeats(
    run, small, core, edit, encoded, moves
):
    model, told, latent = edit(edited_prompt="night rain " * 45 + "a city with fire under *")
    model = run("AAI_LoudnessReweight", model=model, conditioning=told, tokens="fire", reference=-23.0,
                scale="0")[0]  # fmt: skip
    negative, length = encoded("night rain " * 80), told[0][0].shape[1]
    assert 2 * negative[0][0].shape[1] == 3 * length
    with torch.inference_mode():
        core.common_ksampler(model, 1, 1, 4.0, "euler", "normal", told, negative, latent, denoise=1.0)
    assert moves
    for change in moves:
        changed = change[change.abs().amax((1, 2)) > 0]
        first, *others = changed.split(length, 1)
        assert len(others) == 2 and first.abs().max() > 0
        for other in others:
            torch.testing.assert_close(first, other, atol=1e-6, rtol=0)


def test_moments_of_other_sounds_take_no_words_weight(run, small, rain, pack):
    """A word's neighbours are the sound of one of them alone."""
    from dataclasses import replace

    patch, clip = pack.part("nodes.comfy.patch"), pack.part("nodes.comfy.clip")
    Prompt = pack.part("aai.prompt").Prompt
    other = replace(rain, vectors={k: v + 1 for k, v in rain.vectors.items()})

    def conditioning(*tokens):
        text = "a city with fire under *"
        prompts = (Prompt("a city with fire"), *(Prompt(text, (token,)) for token in tokens))
        ids = tuple(clip.encode(small.clip, prompt).token_ids[0] for prompt in prompts)
        return [[torch.zeros(1, 1), {clip.TOKEN_IDS: ids, clip.PROMPTS: clip.Written(small.clip, prompts)}]]

    again = replace(rain, vectors={k: v.clone() for k, v in rain.vectors.items()})
    assert len(patch._without(conditioning(rain, again), ["fire"], True, ["rain"])) == 1
    with pytest.raises(pack.part("aai.errors").InputError, match="words of different sounds"):
        patch._without(conditioning(rain, other), ["fire"], True, ["rain"])
