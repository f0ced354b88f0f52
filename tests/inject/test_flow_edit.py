"""FlowEdit against the published algorithm, and what it leaves as it is."""

import pytest
import torch

from aai.errors import InputError
from aai.inject.flow_edit import editing, flow_edit

SIGMAS = torch.linspace(1, 0, 9)


def field(weight, shift):
    return lambda x, sigma: torch.tanh(x @ weight) * (1 + sigma) + shift


@pytest.fixture
def fields():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 5, generator=generator)
    return field(weight, 0.0), field(weight + 0.3 * torch.randn(5, 5, generator=generator), 0.2)


@pytest.fixture
def source():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))


def noise(source, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(source.shape, generator=generator) for _ in SIGMAS[1:]]


def test_it_is_algorithm_1(fields, source):
    by_source, by_edited = fields
    found = flow_edit(source, SIGMAS, lambda a, b, s: (by_source(a, s), by_edited(b, s)), noise(source))
    # Algorithm 1 of the paper, n_avg = 1, n_min = 0, in its own order.
    z_edit = source
    for i, n in enumerate(noise(source)):
        t, t_next = float(SIGMAS[i]), float(SIGMAS[i + 1])
        z_src = (1 - t) * source + t * n
        z_tar = z_edit + z_src - source
        v_delta = by_edited(z_tar, t) - by_source(z_src, t)
        z_edit = z_edit + (t_next - t) * v_delta
    torch.testing.assert_close(found, z_edit, rtol=0, atol=1e-6)
    assert (found - source).abs().max() > 0.1


def test_it_goes_on_from_where_it_stopped(fields, source):
    drawn = noise(source)

    def velocities(noisy, noisy_edited, sigma):
        return fields[0](noisy, sigma), fields[1](noisy_edited, sigma)

    def edit(sigmas, drawn, edited=None):
        return flow_edit(source, sigmas, velocities, drawn, edited=edited)

    half = edit(SIGMAS[:5], drawn[:4])
    torch.testing.assert_close(edit(SIGMAS[4:], drawn[4:], half), edit(SIGMAS, drawn), rtol=0, atol=1e-6)


def test_where_both_prompts_agree_nothing_moves(fields, source):
    one = fields[0]
    assert torch.equal(
        flow_edit(source, SIGMAS, lambda a, b, s: (one(a, s), one(b, s)), noise(source)), source
    )


def test_a_mask_keeps_the_rest(fields, source):
    mask = torch.zeros(2, 1, 4, 5)
    mask[..., :2] = 1
    found = flow_edit(
        source, SIGMAS, lambda a, b, s: (fields[0](a, s), fields[1](b, s)), noise(source), mask=mask
    )
    assert torch.equal(found[..., 2:], source[..., 2:]) and not torch.equal(found[..., :2], source[..., :2])


def test_a_callback_sees_each_step_and_may_stop_it(fields, source):
    seen = []

    def note(step, steps, edited, clean):
        seen.append((step, steps, edited.shape == clean.shape == source.shape))
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        flow_edit(
            source, SIGMAS, lambda a, b, s: (fields[0](a, s), fields[1](b, s)), noise(source), callback=note
        )
    assert seen == [(0, 8, True), (1, 8, True), (2, 8, True)]


@pytest.mark.parametrize("strength, steps", [(1, 8), (0.5, 4), (0.01, 1)])
def test_the_strength_is_the_share_of_steps_that_edit(strength, steps):
    part = editing(SIGMAS, strength)
    assert len(part) == steps + 1 and part[-1] == 0


@pytest.mark.parametrize("strength", [0, -1, 1.2, float("nan")])
def test_a_strength_that_cannot_be_is_refused(strength):
    with pytest.raises(InputError, match="strength"):
        editing(SIGMAS, strength)
