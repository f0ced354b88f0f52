"""What a MODEL's options hold of an injection, and those of one sampling."""

from __future__ import annotations

import uuid

import pytest
import torch


@pytest.fixture
def state(pack):
    return pack.part("nodes.comfy.state")


def test_an_attachment_stays_as_it_is_made(pack, state, make_token):
    Prompt, Edit = pack.part("aai.prompt").Prompt, pack.part("aai.inject.edit").Edit
    edit = Edit(Prompt("a city"), (Prompt("a city under *", (make_token(),)),))
    attachment = state.Attachment(edit)
    assert attachment.injection is edit and attachment.heatmap is None
    with pytest.raises(AttributeError):
        attachment.heatmap = torch.zeros(1)


def test_the_injection_belongs_to_its_prompts_but_for_negative_ones(pack, state):
    EditRun = pack.part("aai.inject.edit_run").EditRun
    plan = pack.part("aai.inject.loudness").Reweight(({"rain": 0.5},))
    ours, negative, other = (uuid.uuid4() for _ in range(3))
    run = state.SamplingRun(EditRun(plan), {ours: ((1, 2),), negative: ((1, 2),)}, {negative, other})
    assert run.prompted == {ours}
    # Of one sampling alone.
    again = state.SamplingRun(EditRun(plan), {}, set())
    run.observed.add(ours)
    assert again.observed == set() == again.prompted and again.observing
