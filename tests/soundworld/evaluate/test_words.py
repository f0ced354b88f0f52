"""SoundWorld's figures of words' weights, on one prompt: each can be reached, and missed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from aai.soundworld.evaluate import words as evaluated
from aai.soundworld.loaders import load_oracle, load_picture_model

INTENSITIES = [0.5, 0.2, 0.4, 0.3, 0.8]


@pytest.fixture
def figures(monkeypatch):
    """figures(events) of one prompt, where the oracle sees these events, as strong as INTENSITIES."""
    monkeypatch.setattr(evaluated, "SAMPLING_STEPS", 2)
    monkeypatch.setattr(evaluated, "PROMPTS", (("a village with a dog", "dog", "dog", "village"),))
    model, oracle = load_picture_model(model="flow"), load_oracle()

    def run(*events):
        seen = dict(events=list(events), intensities=INTENSITIES, scenes=["village"] * 4 + ["city"])
        judge = SimpleNamespace(grade=lambda pictures: replace(oracle.grade(pictures), **seen))
        return evaluated.words(model, judge, [0], lambda told: None)

    return run


def test_a_words_weight_is_measured_by_its_own_event(figures):
    found = figures("nothing", *["dog"] * 4)
    for form in (evaluated.OURS, evaluated.IN_THE_PROMPT):
        assert found[f"{form}: Spearman of weight and strength"] == pytest.approx(0.9)
        assert found[f"{form}: range of strength"] == pytest.approx(0.8)
        shares = [found[f"{form}: the event is seen at {scale:g}"].hits for scale in evaluated.SCALES]
        assert shares == [0, 1, 1, 1, 1]
        assert found[f"{form}: the scene is the prompt's"].hits == 4
    found = figures("dog", *["rooster"] * 4)
    assert found[f"{evaluated.OURS}: range of strength"] == pytest.approx(-0.5)


def test_the_word_moves_the_picture_and_the_prompts_weight_hardly():
    """The range of what either does to the picture, on the shipped model."""
    model, moved = load_picture_model(model="flow"), []
    for weighed in (evaluated.by_word, evaluated.in_the_prompt):
        cond, control = weighed(model, "a village with a dog", "dog")
        made = model.sample(cond, cond, seeds=[0], steps=2, guidance=1.0, edit=control)
        moved.append(float((made[-1] - made[0]).abs().mean()))
    assert moved[0] > 3 * moved[1] > 0
