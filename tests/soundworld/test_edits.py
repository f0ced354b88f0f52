"""SoundWorld's figures of edits, on one scene: each can be reached, and missed."""

import torch

from aai.inject.edit import Edit, blended
from aai.prompt import Prompt
from aai.soundworld import edits, load_oracle, load_picture_model
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
    tower = model._towers["clip_l"]
    ids = tower.tokenize("dog")[1:-1]
    token = SoundToken("dog", {"clip_l": tower.words.weight[ids].detach().clone()})
    plain = Edit(Prompt("a village", (token,)), (Prompt("a village with *", (token,)),))
    near = []
    for edit in (plain, blended(plain, model.encode_prompt, **edits.BLEND)):
        source, edited = edits.draw_edit(model, edit, [1])[0]
        grades = oracle.grade(torch.stack([source, edited]))
        assert grades.events == ["nothing", "dog"] and grades.scenes == ["village", "village"]
        near.append(edits.similarity_outside(source, edited, grades.masks[1]))
    assert near[1] > near[0] + 0.03
