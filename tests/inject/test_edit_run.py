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


@pytest.fixture
def shared_run(make_token, trajectory):
    """shared_run(scales, **settings) -> the run of an edit of as many pictures, of rain and a dog."""
    tokens = make_token("rain"), make_token("dog", seed=1)

    def begin(*scales, **settings):
        edited = Prompt("a city under * and <dog>", tokens)
        return Edit(
            Prompt("a city"), (edited,) * len(scales), scales=scales, trajectory=trajectory, **settings
        ).begin(SIZE, 2, 4.0)

    return begin


def led(run, x):
    """What a run makes of latents before the model, after it and after guidance, and what the sources should
    be there."""
    found = run.before_model(x, 1.0), run.after_model([x], 0, 0.5)[0], run.after_guidance(x, 0.5)
    return zip(found, (run.trajectory.at(1.0), run.trajectory.clean, run.trajectory.clean))


def test_edited_rows_keep_to_the_trajectory_as_far_as_they_are_the_source(shared_run):
    both = [{"rain": scale, "dog": scale} for scale in (0.0, 0.25, 1.0, 2.0)]
    run, x = shared_run(*both, {"rain": 0.0, "dog": 0.75}, {"rain": 0.0}), latents(14)
    for made, source in led(run, x):
        for group, before in zip(made.split(7), x.split(7)):
            # Beside the picture itself, and from scale 1 on, nothing even rounds.
            assert torch.equal(group[:2], source.expand(2, *SIZE))
            assert torch.equal(group[[3, 4, 6]], before[[3, 4, 6]])
            for row, share in ((2, 0.75), (5, 0.25)):
                assert_close(group[row], before[row] + share * (source - before[0]))


def test_eq_8_alone_says_nothing_of_the_source(shared_run):
    x = latents()
    for made, _ in led(shared_run({"rain": 0.0, "dog": 0.0}, silence="literal"), x):
        assert torch.equal(made[1::2], x[1::2])


def test_where_nothing_may_change_an_edit_is_the_photograph_at_every_scale(shared_run, trajectory):
    mask = torch.zeros(8, 8)
    mask[:, :4] = 1
    run = shared_run({"rain": 0.5, "dog": 0.5}, blend=Blend(mask=mask))
    (clean,) = run.after_model([latents()], None, 0.0)
    assert torch.equal(clean[1::2, ..., 4:], trajectory.clean[..., 4:].expand(2, -1, -1, -1))
    assert not torch.equal(clean[1::2, ..., :4], trajectory.clean[..., :4].expand(2, -1, -1, -1))


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


def test_one_scale_is_for_every_prompt_of_a_batch():
    """In each prompt the token stands elsewhere."""
    prompts = [(1, ("rain", 0), 2), (1, 5, ("rain", 0))]
    run = Reweight(({"rain": 0.0},)).begin(SIZE, None, None)
    injection, groups = run.injection(0.0, 10, prompts, 3), run.groups(range(4))
    values = torch.ones(4, 3, 1)
    injection.cross_attention(lambda q, k, v: v, values.clone(), values.clone(), values, groups)
    assert values[..., 0].tolist() == [[1, 0, 1], [1, 1, 0]] * 2


def test_groups_of_pictures_take_the_scales_in_turn():
    """As a batch of several seeds has them."""
    run = Reweight(({"rain": 0.0}, {"rain": 2.0})).begin(SIZE, None, None)
    injection, groups = run.injection(0.0, 10, [(1, ("rain", 0), 2)] * 4, 3), run.groups(range(4))
    values = torch.ones(4, 3, 1)
    injection.cross_attention(lambda q, k, v: v, values.clone(), values.clone(), values, groups)
    assert values[..., 0].tolist() == [[1, 0, 1], [1, 2, 1]] * 2


def test_scales_that_are_not_as_many_as_the_prompts_are_refused():
    run = Reweight(({"rain": 0.0}, {"rain": 2.0})).begin(SIZE, None, None)
    prompts = [(1, ("rain", 0), 2)] * 3
    with pytest.raises(InputError, match="2 loudness scales were given for 3 prompts"):
        run.injection(0.0, 10, prompts, 3)


def test_latents_of_another_size_are_refused(make_token, trajectory):
    edited = Prompt("a city under *", (make_token("rain"),))
    edit = Edit(Prompt("a city"), (edited,), trajectory=trajectory)
    with pytest.raises(InputError, match="sampler's are"):
        edit.begin((4, 8, 9), 2, 4.0)
