"""What is measured of pictures of two sounds."""

import torch

from aai.prompt import Prompt
from aai.soundworld.evaluate import both
from aai.soundworld.loaders import load_adapter, load_events_oracle, load_picture_model, load_sound_encoder


def test_a_mixtures_words_stand_in_one_prompt_beside_phrases_and_rendered_pictures():
    model = load_picture_model()
    figures = dict(both.both(model, load_events_oracle(), load_sound_encoder(), load_adapter(model), count=4))
    assert all(
        share.count == 4
        for what, share in figures.items()
        if "both heard:" not in what and "above" not in what and "same pairs" not in what
    )
    placed = [
        share for what, share in figures.items() if "below: both" in what or "picture of each: both" in what
    ]
    assert len({share.count for share in placed}) == 1 and placed[0].count > 0
    assert figures["rendered: both shown"].hits >= 3
    assert figures["words of the sounds: one shown"].hits >= figures["words of the sounds: both shown"].hits


def test_what_is_shown_beside_the_pair_does_not_count():
    shown = [{"rain", "dog"}, {"rain", "fire"}, {"clock"}]
    pairs = [("rain", "dog"), ("dog", "rain"), ("rain", "dog")]
    figures = dict(both.shares("x", shown, pairs))
    assert figures["x: both shown"].hits == 1 and figures["x: one shown"].hits == 2


def test_a_pair_is_one_picture_its_first_above_and_its_second_below():
    pairs = torch.stack(
        [torch.zeros(3, 8, 5), torch.ones(3, 8, 5), torch.full((3, 8, 5), 2.0)] + [torch.ones(3, 8, 5)]
    )
    drawn = both.in_places(pairs)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[2], drawn[3])
    assert drawn[0, 0, 0, 0] < 0.1 and bool((drawn[0, :, -2:] == 1).all())
    assert drawn[2, 0, 0, 0] > 1.9 and bool((drawn[2, :, -2:] == 1).all())


def test_the_same_prompt_above_and_below_is_that_prompts_picture():
    for name in ("unet", "flow"):
        model, prompt = load_picture_model(model=name), Prompt("a city with rain")
        drawn = both.draw_in_places(model, [(prompt, prompt)] * 2, [3, 4])
        torch.testing.assert_close(drawn, both.draw_each(model, [prompt] * 2, [3, 4]), atol=1e-4, rtol=0)
