"""SoundWorld's figures of edits, on one scene: each can be reached, and missed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from aai.inject.edit import Edit, blended
from aai.prompt import Prompt
from aai.soundworld.evaluate import edits
from aai.soundworld.loaders import load_oracle, load_picture_model
from aai.token import SoundToken


def test_similarity_counts_only_what_is_outside_the_event():
    source = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    edited = source.clone()
    edited[:, :64] = 0
    mask = torch.zeros(64, 64)
    assert edits.similarity_outside(source, edited, mask) < 0.6
    # A window of 7 pixels sees over the edge.
    mask[:34] = 1
    assert edits.similarity_outside(source, edited, mask) > 0.999
    assert edits.similarity_outside(source, edited, torch.ones(64, 64)) == 1.0


def test_an_edit_that_keeps_to_its_changes_leaves_more_of_the_source(monkeypatch):
    """The word itself stands for a sound token: no training."""
    model, oracle = load_picture_model(), load_oracle()
    monkeypatch.setattr(edits, "SAMPLING_STEPS", 8)
    tower = model._text_encoders["clip_l"]
    ids = tower.tokenize("dog")[1:-1]
    token = SoundToken("dog", {"clip_l": tower.vocabulary.weight[ids].detach().clone()})
    plain = Edit(Prompt("a village", (token,)), (Prompt("a village with *", (token,)),))
    near = []
    for edit in (plain, blended(plain, model.encode_prompt, **edits.BLEND)):
        source, edited = edits.draw_edit(model, edit, [1])[0]
        grades = oracle.grade(torch.stack([source, edited]))
        assert grades.events == ["nothing", "dog"] and grades.scenes == ["village", "village"]
        near.append(edits.similarity_outside(source, edited, grades.masks[1]))
    assert near[1] > near[0] + 0.03


def test_the_worlds_own_pairs_say_what_an_edit_can_keep():
    fireworks, dog = (edits.rendered([event], [0]) for event in ("fireworks", "dog"))
    whole = "rendered: SSIM to the source outside the event"
    assert fireworks[f"{whole}; events that light the scene"] == fireworks[whole] < 0.5
    assert dog[f"{whole}; things"] == dog[whole] > 0.8
    assert edits.rendered(["rain"], [0]) == {}


def test_a_sweep_tells_what_scale_0_gives_by_itself(monkeypatch):
    monkeypatch.setattr(edits, "SAMPLING_STEPS", 2)
    monkeypatch.setattr(edits, "SCENES", ("village",))
    model, oracle = load_picture_model(), load_oracle()
    tower = model._text_encoders["clip_l"]
    ids = tower.tokenize("dog")[1:-1]
    token = SoundToken("dog", {"clip_l": tower.vocabulary.weight[ids].detach().clone()})
    # As loud as the scale: what a sweep is to find.
    seen = dict(events=["nothing", *["dog"] * 4], intensities=[0.5, 0.2, 0.4, 0.3, 0.8])
    judge = SimpleNamespace(grade=lambda pictures: replace(oracle.grade(pictures), **seen))
    found = edits.loudness_sweep(model, judge, {"dog": token}, [0])
    assert found["dog"] == found["mean"] == pytest.approx(0.9)
    assert found["dog, scales above 0"] == pytest.approx(0.8)
    assert found["share seen at scale 0"] == 0.0 and found["share seen at scale 2"] == 1.0
