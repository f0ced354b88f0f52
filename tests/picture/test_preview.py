"""A quick picture between training steps."""

from __future__ import annotations

import pytest
import torch

from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.picture.preview import preview
from aai.prompt import Prompt


@pytest.fixture
def model(make_parts):
    return DiffusersPictureModel(**vars(make_parts()))


def conds(model, text):
    return model.encode_prompt(Prompt(text)), model.encode_prompt(Prompt(""))


def test_it_is_of_the_size_of_what_is_trained_on_and_the_seeds_own(model):
    like = torch.zeros(3, 4, 8, 16, dtype=torch.float16)
    found = preview(model, *conds(model, "rain"), like, seed=2, steps=2)
    assert found.shape == (1, 4, 8, 16) and found.dtype == torch.float16 and not found.requires_grad
    assert torch.equal(found, preview(model, *conds(model, "rain"), like, seed=2, steps=2))
    assert not torch.equal(found, preview(model, *conds(model, "rain"), like, seed=3, steps=2))


def test_without_guidance_beyond_the_prompt_the_unconditional_counts_nothing(model):
    like = torch.zeros(1, 4, 8, 8)
    cond, uncond = conds(model, "rain")
    other = model.encode_prompt(Prompt("fire"))
    calls, predict = [], model.predict_noise
    model.predict_noise = lambda x, t, c: (calls.append(c), predict(x, t, c))[1]
    found = [preview(model, cond, c, like, steps=3, guidance=1.0) for c in (uncond, other)]
    assert torch.equal(*found) and len(calls) == 6 and all(c is cond for c in calls)


def test_no_steps_are_refused(model):
    with pytest.raises(InputError, match="0 steps"):
        preview(model, *conds(model, "rain"), torch.zeros(1, 4, 8, 8), steps=0)
