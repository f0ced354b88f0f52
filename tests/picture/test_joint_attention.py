"""Edits of flow transformers through diffusers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.errors import InputError
from aai.inject.edit import Edit, encode, stack_of, windows
from aai.inject.flow_edit import edit_picture
from aai.inject.invert import Trajectory
from aai.inject.latent_frames import LatentFilm, Take
from aai.inject.loudness import Reweight
from aai.inject.words import WordScale
from aai.picture.flow_families import flow_model
from aai.prompt import Prompt
from aai.token import SoundToken

STEPS = 5


@pytest.fixture
def model(make_flux):
    return flow_model(make_flux().components)


@pytest.fixture
def token(model):
    generator = torch.Generator().manual_seed(5)
    vectors = {k: torch.randn(1, i.dim, generator=generator) * i.std for k, i in model.text_encoders.items()}
    return SoundToken("rain", vectors)


@pytest.fixture
def draw(model):
    def run(cond, edit=None, guidance=2.0):
        uncond = model.encode_prompt(Prompt(""))
        return model.sample(
            cond, uncond, seeds=[1, 2], steps=STEPS, guidance=guidance, width=32, height=32, edit=edit
        )

    return run


@pytest.fixture
def pair(model, draw):
    def run(edit, guidance=2.0):
        made = draw(encode(model.encode_prompt, edit, stack_of(model)), edit, guidance)
        return made.unflatten(0, (-1, edit.rows))

    return run


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_source_is_the_picture_without_an_edit(model, draw, pair, token, guidance):
    edit = Edit(
        Prompt("a city", (token,)),
        (Prompt("a city under *", (token,)),),
        **windows(style=False, transformer=True),
    )
    made = pair(edit, guidance)
    assert_close(made[:, 0], draw(model.encode_prompt(edit.source), None, guidance), rtol=0, atol=1e-5)
    assert (made[:, 1] - made[:, 0]).abs().max() > 1e-3


def test_an_edit_to_the_same_prompt_and_scale_0_give_the_source(pair, token):
    same = Prompt("rain in * again", (token,))
    made = pair(Edit(same, (same,), self_window=(0.0, 0.6)))
    assert_close(made[:, 1], made[:, 0], rtol=0, atol=1e-6)
    other = Prompt("a city", (token,)), (Prompt("a city under *", (token,)),)
    made = pair(Edit(*other, scales=({"rain": 0.0},), self_window=(0.0, 0.2)))
    assert_close(made[:, 1], made[:, 0], rtol=0, atol=1e-5)


def test_the_scale_goes_from_the_source_on(pair, token):
    words = Prompt("a photo of rain", (token,)), Prompt("a photo of *", (token,))
    distances = []
    for scale in (0.0, 0.5, 1.0, 1.5):
        made = pair(Edit(words[0], words[1:], scales=({"rain": scale},), self_window=(0.0, 1.0)))
        distances.append(float((made[:, 1] - made[:, 0]).abs().mean()))
    assert distances[0] < distances[1] < distances[2] < distances[3]


def test_at_weight_0_a_word_is_as_if_absent(model, draw, pair, token):
    whole, shorter = (model.encode_prompt(Prompt(f"a city in {words}")) for words in ("heavy rain", "rain"))
    without = {whole.token_ids[0]: shorter}

    def weighed(*scales):
        made = draw(whole, Reweight(({},) * len(scales), (WordScale(("heavy",), scales, without),)))
        return made.unflatten(0, (-1, len(scales))).unbind(1)

    made = weighed(0.0, 0.5, 1.0, 2.0)
    assert_close(made[0], draw(shorter), rtol=0, atol=1e-5)
    assert_close(made[2], draw(whole), rtol=0, atol=1e-5)
    assert_close(weighed(1.0)[0], draw(whole), rtol=0, atol=1e-6)
    near = [float((one - made[0]).abs().mean()) for one in made]
    assert near[0] < near[1] < near[2] < near[3]
    # Beside a pair: the edit to the prompt without the word.
    source, edited = Prompt("a city", (token,)), Prompt("a city in heavy *", (token,))
    shorter = Prompt("a city in *", (token,))
    ids = model.encode_prompt(edited).token_ids[0]
    word = WordScale(("heavy",), (0.0,), {ids: model.encode_prompt(shorter)})
    found, wanted = pair(Edit(source, (edited,), words=(word,))), pair(Edit(source, (shorter,)))
    assert_close(found, wanted, rtol=0, atol=1e-5)
    assert (found - pair(Edit(source, (edited,)))).abs().max() > 1e-3


def test_a_prompt_that_is_longer_without_a_word_is_refused(model, draw):
    whole = model.encode_prompt(Prompt("rain"))
    longer = model.encode_prompt(Prompt("in the city " * 300))
    word = WordScale(("rain",), (0.5,), {whole.token_ids[0]: longer})
    with pytest.raises(InputError, match="more pieces than with them"):
        draw(whole, Reweight(({},), (word,)))


def test_a_longer_prompt_beside_it_leaves_the_source_alone(model, draw, pair, token):
    long = "at night and again under fire " * 60
    edit = Edit(Prompt("a city", (token,)), (Prompt(f"a city {long} under *", (token,)),))
    cond = encode(model.encode_prompt, edit, stack_of(model))
    assert len({len(row) for row in cond.token_ids}) == 2
    assert_close(pair(edit)[:, 0], draw(model.encode_prompt(edit.source)), rtol=0, atol=1e-5)


def test_attention_of_another_kind_is_refused(model, pair, token, monkeypatch):
    from diffusers.models import attention_dispatch

    plain = F.scaled_dot_product_attention

    def other(query, key, value, **_):
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1).matmul(v).transpose(1, 2)

    backends = attention_dispatch._AttentionBackendRegistry._backends
    monkeypatch.setitem(backends, attention_dispatch.AttentionBackendName.NATIVE, other)
    with pytest.raises(InputError, match="is not torch's own"):
        pair(Edit(Prompt("a city", (token,)), (Prompt("a city under *", (token,)),)))
    assert F.scaled_dot_product_attention is plain


def test_a_photograph_is_edited_without_inversion(model, token):
    latents = model.encode_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)))
    source, edited = (model.encode_prompt(Prompt(text, (token,))) for text in ("a city", "a city under *"))
    uncond, steps = model.encode_prompt(Prompt("")), []
    given = dict(steps=STEPS, guidance=2.0, source_guidance=2.0, callback=lambda *at: steps.append(at))
    assert_close(edit_picture(model, latents, source, [source], uncond, **given), latents, rtol=0, atol=1e-5)
    made = edit_picture(model, latents, source, [edited], uncond, **given)
    assert made.shape == latents.shape and (made - latents).abs().max() > 1e-3
    assert steps == [(i + 1, 4) for i in range(4)] * 2
    # Beside a longer one it is the same.
    longer = model.encode_prompt(Prompt("a city under * and a city under *", (token,)))
    beside = edit_picture(model, latents, source, [edited, longer], uncond, **given)
    assert_close(beside[:1], made, rtol=0, atol=1e-6)


def test_what_joint_attention_does_not_follow_is_refused(model, draw, token):
    prompt = Prompt("a city under *", (token,))
    cond = model.encode_prompt(prompt)
    draw(cond, Reweight(({"rain": 1.0},)))
    with pytest.raises(InputError, match="a sound token alone does nothing in the attention of Flux"):
        draw(cond, Reweight(({"rain": 0.5},)))
    trajectory = Trajectory(torch.tensor([1.0, 0.0]), torch.zeros(2, 16, 16, 16))
    edit = Edit(Prompt("a city", (token,)), (prompt,), trajectory=trajectory)
    cond = encode(model.encode_prompt, edit, stack_of(model))
    with pytest.raises(InputError, match="Flux edits a picture without inverting it"):
        draw(cond, edit)
    film = LatentFilm((0,), (Take(0),), (), cond.token_ids)
    with pytest.raises(InputError, match="is for a video model"):
        draw(cond, replace(edit, trajectory=None, film=film))
