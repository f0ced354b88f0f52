"""What is measured of pictures of two sounds."""

from aai.soundworld.evaluate import both
from aai.soundworld.loaders import load_adapter, load_events_oracle, load_picture_model, load_sound_encoder


def test_a_mixtures_words_stand_in_one_prompt_beside_phrases_and_rendered_pictures():
    model = load_picture_model()
    figures = dict(both.both(model, load_events_oracle(), load_sound_encoder(), load_adapter(model), count=4))
    assert all(share.count == 4 for what, share in figures.items() if "both heard:" not in what)
    assert figures["rendered: both shown"].hits >= 3
    assert figures["words of the sounds: one shown"].hits >= figures["words of the sounds: both shown"].hits


def test_what_is_shown_beside_the_pair_does_not_count():
    shown = [{"rain", "dog"}, {"rain", "fire"}, {"clock"}]
    pairs = [("rain", "dog"), ("dog", "rain"), ("rain", "dog")]
    figures = dict(both.shares("x", shown, pairs))
    assert figures["x: both shown"].hits == 1 and figures["x: one shown"].hits == 2
