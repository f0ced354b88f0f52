"""What is measured of instant words."""

from __future__ import annotations

import torch

from aai.prompt import Prompt
from aai.soundworld.evaluate import instant
from aai.soundworld.evaluate.measure import draw_each
from aai.soundworld.loaders import load_picture_model, load_sound_encoder


def test_the_sound_alone_is_the_adapter_without_what_it_adds():
    model, ears = load_picture_model(), load_sound_encoder()
    adapter = instant.adapter_of(ears, model, None)
    f_a = ears.embed([sound for _, sound in instant.unseen(["rain"])[:1]])[0]
    plain = instant.alone(adapter).token(f_a)
    assert not plain.f_adapter["clip_l"].any() and adapter.token(f_a).f_adapter["clip_l"].any()
    direction = plain.vectors["clip_l"][0] / plain.vectors["clip_l"].norm()
    torch.testing.assert_close(direction, f_a / f_a.norm())


def test_each_word_is_drawn_with_its_own_seed():
    model, ears = load_picture_model(), load_sound_encoder()
    adapter = instant.adapter_of(ears, model, None)
    f_a = ears.embed([sound for _, sound in instant.unseen(["rain", "dog"])[:: instant.EACH]])
    tokens = [adapter.token(row) for row in f_a]
    both = draw_each(model, instant.photos(tokens), [3, 4])
    alone = draw_each(model, instant.photos(tokens[1:]), [4])
    torch.testing.assert_close(both[1:], alone, atol=1e-3, rtol=0)


def test_texts_of_several_lengths_are_drawn_as_alone():
    """A transformer sees each place of a text, so that one which is repeated to a longer's is another."""
    model = load_picture_model(model="flow")
    texts = [
        "a city with rain",
        "a photo of a desert with an extreme violent dog barking and " * 2,
        "a beach",
    ]
    prompts = [Prompt(text) for text in texts]
    assert len({model.encode_prompt(prompt).cross.shape[1] for prompt in prompts}) == 2
    drawn = draw_each(model, prompts, [3, 4, 5])
    for i, seed in enumerate((3, 4, 5)):
        torch.testing.assert_close(
            drawn[i : i + 1], draw_each(model, prompts[i : i + 1], [seed]), atol=1e-3, rtol=0
        )
