"""Films: which pictures are drawn, each as it would be alone, and the word of each stretch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aai.errors import InputError
from aai.inject.edit import encode
from aai.inject.film import (
    NOTHING,
    SOURCE,
    FilmPlan,
    Shot,
    chunk_edit,
    chunks,
    encoding_once,
    plain_word,
    plan,
    word_of_sound,
    words_of,
)
from aai.inject.timeline import Timeline
from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt
from aai.token import SoundToken


def line(stretch, scale, dim=4, encoder="ear") -> Timeline:
    class Windows:
        f_a = torch.zeros(1, dim)

    Windows.encoder = encoder
    count = len(stretch)
    f_a = torch.randn(max(max(stretch) + 1, 0), dim, generator=torch.Generator().manual_seed(3))
    return Timeline(4, ("",) * count, np.array(stretch), f_a, np.zeros(count), np.array(scale), Windows())


def test_what_shows_the_same_is_drawn_once_and_nothing_is_the_source():
    made = plan(line([-1, 0, 0, 0, 1, 1, 0], [1.0, 0.0, 0.5, 0.502, 0.5, 1.2, 0.5]))
    assert made == FilmPlan((Shot(0, 0.5), Shot(1, 0.5), Shot(1, 1.2)), (SOURCE, SOURCE, 0, 0, 1, 2, 0))
    assert plan(line([0], [9.0])).shots == (Shot(0, 2.0),)
    assert [len(part) for part in chunks([Shot(0, 0.01 * i) for i in range(20)], 8)] == [8, 8, 4]
    silent = plan(line([-1, -1], [0, 0]))
    assert silent == FilmPlan((), (SOURCE, SOURCE)) and silent.drawn == (NOTHING,) and silent.sources == (0,)
    assert made.drawn == made.shots


def test_each_cut_begins_a_scene_of_its_own():
    timeline = replace(line([-1, 0, 0, 1, 2, 2], [0.0, 0.5, 0.0, 0.0, 0.5, 1.0]), new_scenes=True)
    made = plan(timeline)
    assert made.shots == (Shot(0, 0.5, 0), Shot(2, 0.5, 2), Shot(2, 1.0, 2))
    assert made.frames == (SOURCE, 0, SOURCE, SOURCE - 1, 1, 2) and made.sources == (0, 1)
    assert made.drawn == (made.shots[0], Shot(SOURCE, 0.0, 1), *made.shots[1:])
    # A chunk has one source, and so one scene.
    assert chunks(made.drawn, 8) == [made.drawn[:1], made.drawn[1:2], made.drawn[2:]]


@pytest.fixture
def adapter(make_token):
    return replace(make_token("rain"), provenance={"encoder": "ear"})


def test_every_stretch_has_the_adapter_under_its_sound(adapter):
    dim = len(adapter.f_a)
    timeline = line([0, 1], [1, 1], dim)
    token_of = words_of(timeline, word_of_sound(adapter, timeline))
    assert torch.equal(token_of(1).f_a, timeline.f_a[1]) and token_of(1) is token_of(1)
    assert not torch.equal(*(next(iter(token_of(i).vectors.values())) for i in (0, 1)))
    assert torch.isfinite(next(iter(token_of(-1).vectors.values()))).all()
    with pytest.raises(InputError, match="take the same encoder for both"):
        word_of_sound(adapter, line([0], [1], dim, "another"))
    with pytest.raises(InputError, match="take the same encoder for both"):
        word_of_sound(adapter, line([0], [1], dim + 1))
    with pytest.raises(InputError, match="plain embedding"):
        word_of_sound(SoundToken("x", adapter.vectors), timeline)


def test_a_plain_word_is_the_sound_itself():
    token = plain_word({"clip_l": 0.4})(torch.tensor([3.0, 4.0]))
    assert torch.allclose(token.vectors["clip_l"], torch.tensor([[0.24, 0.32]]))


def test_a_chunk_is_an_edit_of_one_source(make_token):
    token = make_token("rain")
    edit = chunk_edit(
        "a city", "a city under *", [Shot(0, 0.5), Shot(0, 1.5)], lambda _: token, silence="literal"
    )
    assert edit.scales == ({"rain": 0.5}, {"rain": 1.5}) and edit.edited[0] is edit.edited[1]
    assert edit.silence == "literal" and edit.rows == 3
    with pytest.raises(InputError, match="no place for the sound"):
        chunk_edit("a city", "a city", [NOTHING], lambda _: token)
    with pytest.raises(InputError, match="changes from frame to frame"):
        chunk_edit("a city under *", "a city with *", [NOTHING], lambda _: token)


def test_a_prompt_is_encoded_once_a_chunk():
    asked = []
    encode_prompt = encoding_once(lambda prompt: asked.append(prompt) or len(asked))
    first, other = Prompt("a"), Prompt("a")
    assert [encode_prompt(prompt) for prompt in (first, first, other)] == [1, 1, 2]


def test_a_frame_is_the_same_in_any_chunk(make_parts, make_token):
    small_model = DiffusersPictureModel(**vars(make_parts()))
    words = [make_token("rain"), make_token("rain", seed=1)]
    shots = [Shot(0, 0.5), Shot(1, 1.0), Shot(0, 1.3)]

    def drawn(part):
        edit = chunk_edit("a city", "a city under *", part, words.__getitem__)
        cond, uncond = encode(small_model.encode_prompt, edit), small_model.encode_prompt(Prompt(""))
        return small_model.sample(cond, uncond, seeds=[5], steps=3, guidance=4.0, edit=edit)

    together = drawn(shots)
    for number, shot in enumerate(shots):
        source, alone = drawn([shot])
        assert torch.allclose(source, together[0], atol=1e-4)
        assert torch.allclose(alone, together[number + 1], atol=1e-4)
    assert not torch.allclose(together[1], together[3], atol=1e-3)
    nothing = drawn([NOTHING])
    assert torch.allclose(nothing[0], nothing[1], atol=1e-4)
