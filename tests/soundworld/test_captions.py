"""What captions say of a picture."""

import numpy as np

from aai.soundworld.captions import (
    LEVELS,
    caption,
    caption_of_several,
    corpus,
    label_of,
    level,
    phrase,
    random_caption,
)
from aai.soundworld.loaders import load_sound_encoder
from aai.soundworld.world import EVENTS, SCENES


def test_a_caption_says_what_is_drawn():
    rng = np.random.default_rng(0)
    for _ in range(200):
        told = caption("forest", "dog", 0.9, rng, starred=0.5)
        assert "dog" in told.plain
        assert ("*" in told.text) == told.starred
        assert told.scene in (None, "forest") and (told.scene is None) == ("forest" not in told.plain)
    assert phrase("rain", 0.95) == "extreme rain" and phrase("dog", 0.95) == "an extreme dog"
    assert [level(i) for i in (0.05, 0.25, 0.5, 0.75, 1.0)] == list(range(len(LEVELS)))
    assert {random_caption(rng).event for _ in range(300)} == {None, *EVENTS}


def test_a_caption_of_several_events_names_each_once():
    rng, first = np.random.default_rng(0), set()
    for _ in range(200):
        text, words = caption_of_several("forest", {"dog": 0.9, "wind": 0.1}, rng, starred=0.5)
        assert text.count("*") == len(words) and text.count(" and ") == 1
        for word in words:
            text = text.replace("*", word, 1)
        assert text.count("dog") == text.count("wind") == 1
        first.add(text.index("dog") < text.index("wind"))
    assert first == {True, False}


def test_a_phrase_names_the_event_and_its_level():
    for event in EVENTS:
        for step, word in enumerate(LEVELS):
            words = phrase(event, (step + 0.5) / len(LEVELS))
            assert event in words and word in words.split()
        assert phrase(event, None).removeprefix("a ") == event
    assert {phrase("dog", 0.9, np.random.default_rng(seed)) for seed in range(20)} >= {
        "an extreme dog",
        "a violent dog",
    }


def test_a_caption_of_a_calm_picture_names_its_scene_alone():
    said = caption("beach", None, 0.9, np.random.default_rng(0), starred=1.0)
    assert said.plain == said.text and said.text.endswith("a beach")
    assert (said.event, said.intensity, said.starred) == (None, None, False)


def test_every_word_of_every_caption_is_in_the_corpus():
    words, rng = set(corpus()), np.random.default_rng(1)
    for _ in range(200):
        assert set(random_caption(rng).plain.replace(",", " ,").split()) <= words
        text, _ = caption_of_several("city", {"clock": 0.5, "rooster": 0.5}, rng, starred=0)
        assert set(text.replace(",", " ,").split()) <= words
    assert {*SCENES, *LEVELS} <= words


def test_an_event_has_one_label_of_the_encoder():
    encoder = load_sound_encoder()
    assert label_of("dog", encoder) == "a dog" and label_of("rain", encoder) == "rain"
    assert sorted(label_of(event, encoder) for event in EVENTS) == sorted(encoder.labels)
