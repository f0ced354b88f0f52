"""One sampling of an edit, step by step, on tensors alone."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.inject.blend import Blend
from aai.inject.edit import Edit
from aai.inject.invert import Trajectory
from aai.inject.loudness import Reweight
from aai.prompt import Prompt

SIZE = (4, 8, 8)


@pytest.fixture
def trajectory():
    latents = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    return Trajectory(torch.tensor([10.0, 1.0, 0.0]), latents)


@pytest.fixture
def begun(make_token):
    """begun(trajectory=...) -> the run of an edit of one picture."""

    def begin(**settings):
        edited = Prompt("a city under *", (make_token("rain"),))
        return Edit(Prompt("a city"), (edited,), **settings).begin(SIZE, 2, 4.0)

    return begin


def latents(rows=4, seed=1):
    return torch.randn(rows, *SIZE, generator=torch.Generator().manual_seed(seed))


def test_without_a_trajectory_or_a_blend_nothing_is_touched(begun):
    run, x = begun(), latents()
    assert run.initial_noise(x, 10.0) is x and run.added_noise(x, 10.0, 10.0) is x
    assert run.before_model(x, 1.0) is x and run.unconditional(1.0) is None
    assert run.after_model([x], 0, 0.5) == [x] and run.after_guidance(x, 0.5) is x


@pytest.mark.parametrize("sigma", [10.0, 4.0, 1.0])
def test_noise_ends_on_the_trajectory(begun, trajectory, sigma):
    """Both kinds of noise lead every row, the edited ones too, to the trajectory's latents at the sigma."""
    run, wanted = begun(trajectory=trajectory), trajectory.at(sigma).expand(4, *SIZE)
    noise = run.initial_noise(latents(), sigma)
    assert_close(noise * (1 + sigma**2) ** 0.5, wanted)
    for amount in (sigma, (1 + sigma**2) ** 0.5):
        assert_close(trajectory.clean + amount * run.added_noise(latents(), sigma, amount), wanted)


def test_sources_keep_to_the_trajectory(begun, trajectory):
    run, x = begun(trajectory=trajectory), latents()
    before = x.clone()
    seen, (clean,) = run.before_model(x, 1.0), run.after_model([x], 0, 0.5)
    for found, wanted in ((seen, trajectory.latents[1]), (clean, trajectory.clean)):
        assert torch.equal(found[::2], wanted.expand(2, *SIZE)) and torch.equal(found[1::2], before[1::2])
    assert torch.equal(run.after_guidance(x, 0.5), clean) and torch.equal(x, before)


def test_the_unconditional_embedding_is_the_steps_own(begun, trajectory):
    nulls = torch.randn(2, 3, 5)
    run = begun(trajectory=Trajectory(trajectory.sigmas, trajectory.latents, nulls, guidance=4.0))
    assert torch.equal(run.unconditional(9.0), nulls[0]) and torch.equal(run.unconditional(1.1), nulls[1])


def test_edited_rows_are_kept_to_a_mask_before_and_after_guidance(begun):
    mask = torch.zeros(8, 8)
    mask[:, :4] = 1
    run, x = begun(blend=Blend(mask=mask)), latents()
    (clean,), guided = run.after_model([x], None, 0.0), latents(seed=2)
    for found, given in ((clean, x), (run.after_guidance(guided, 0.0), guided)):
        assert torch.equal(found[::2], given[::2])
        assert torch.equal(found[1::2, ..., :4], given[1::2, ..., :4])
        assert torch.equal(found[1::2, ..., 4:], given[::2, ..., 4:])


def test_only_the_prompts_own_prediction_says_where_an_edit_changes(begun):
    run = begun(blend=Blend(changes=True, start=0.0))
    other, same = latents(), latents(2).repeat_interleave(2, 0)
    own = same.clone()
    own[1::2, :, :2, :2] += 5
    assert torch.equal(run.after_model([other], None, 0.5)[0], other), "nothing is compared yet"
    kept = run.after_model([other, own], 1, 0.5)[0]
    assert torch.equal(kept[1::2, :, 4:], other[::2, :, 4:])
    assert torch.equal(kept[1::2, :, 0, 0], other[1::2, :, 0, 0])


def test_loudness_alone_has_no_source():
    run = Reweight(({"rain": 0.0}, {"rain": 2.0})).begin(SIZE, None, None)
    assert run.rows == 2 and run.groups(range(4)) == [[0, 0, 1], [2, 2, 3]]
    mixes = run.injection(0.0, 10, [(1, ("rain", 0), 2)], 6).mixes
    assert [mix.own.tolist() for mix in mixes] == [[1, 0, 1] * 2, [1, 2, 1] * 2]


def test_latents_of_another_size_are_refused(make_token, trajectory):
    edited = Prompt("a city under *", (make_token("rain"),))
    edit = Edit(Prompt("a city"), (edited,), trajectory=trajectory)
    with pytest.raises(InputError, match="sampler's are"):
        edit.begin((4, 8, 9), 2, 4.0)
