from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.picture import schedule

SD1 = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


@pytest.fixture(scope="module")
def sigmas():
    return schedule.sigmas_of(schedule.alphas_cumprod(SD1))


def test_stable_diffusions_sigmas(sigmas):
    product, expected = 1.0, []
    for i in range(1000):
        product *= 1 - (math.sqrt(0.00085) + i / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2
        expected.append(math.sqrt((1 - product) / product))
    assert_close(sigmas, torch.tensor(expected), rtol=1e-3, atol=1e-5)
    assert sigmas[0] == pytest.approx(0.0292, abs=1e-4) and sigmas[-1] == pytest.approx(14.6146, abs=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_the_normal_schedule_is_even_in_time(sigmas, steps):
    found = schedule.normal(sigmas, steps)
    assert len(found) == steps + 1 and found[-1] == 0 and found[0] == sigmas[-1]
    for i in range(steps):
        time = 999 - 999 * i / max(steps - 1, 1)
        low = math.floor(time)
        high, share = min(low + 1, 999), time - low
        logarithm = (1 - share) * math.log(sigmas[low]) + share * math.log(sigmas[high])
        assert found[i] == pytest.approx(math.exp(logarithm), rel=1e-4)


def test_no_steps_are_refused(sigmas):
    with pytest.raises(InputError, match="0 steps"):
        schedule.normal(sigmas, 0)


def test_timesteps_are_the_nearest_by_logarithm(sigmas):
    for t in (0, 1, 500, 999):
        assert schedule.timestep(sigmas[t], sigmas) == t
        assert schedule.timestep(sigmas[t] * 1.0001, sigmas) == t
    middle = (sigmas[500] * sigmas[501]).sqrt()
    assert (
        schedule.timestep(middle * 1.001, sigmas) == 501 and schedule.timestep(middle / 1.001, sigmas) == 500
    )


def test_noise_and_v_stand_for_the_same_clean_latents():
    clean, noise, sigma = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor(1.7)
    x = clean + sigma * noise
    signal, share = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    assert_close(schedule.denoised(x, noise, sigma, False), clean, atol=1e-5, rtol=1e-5)
    assert_close(
        schedule.denoised(x, signal * noise - share * clean, sigma, True), clean, atol=1e-5, rtol=1e-5
    )


def test_euler_follows_the_known_path_of_gaussian_data(sigmas):
    # For data ~ N(0, c^2) the ideal denoiser is x c^2 / (c^2 + sigma^2), and x keeps its share of sqrt(c^2 +
    # sigma^2).
    c = 0.5
    path = schedule.normal(sigmas, 1000)
    noise = torch.randn(1, 1, 4, 4)
    start = schedule.noisiest(noise, path[0])
    found = schedule.euler(lambda x, sigma: x * c**2 / (c**2 + sigma**2), start, path)
    assert torch.equal(start, noise * (1 + path[0] ** 2).sqrt())
    assert_close(found, start * c / (c**2 + path[0] ** 2).sqrt(), rtol=0.02, atol=1e-4)


def test_callback_sees_every_step_and_may_cancel(sigmas):
    seen = []
    schedule.euler(
        lambda x, sigma: x * 0 + 3,
        torch.randn(1, 1, 2, 2),
        schedule.normal(sigmas, 3),
        lambda step, steps, clean: seen.append((step, steps, float(clean.mean()))),
    )
    assert seen == [(1, 3, 3.0), (2, 3, 3.0), (3, 3, 3.0)]

    def cancel(step, steps, clean):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        schedule.euler(lambda x, sigma: x, torch.randn(1, 1, 2, 2), schedule.normal(sigmas, 3), cancel)


def test_a_schedule_that_ends_in_pure_noise_stays_finite():
    alphas = schedule.alphas_cumprod({**SD1, "rescale_betas_zero_snr": True})
    assert torch.isfinite(schedule.sigmas_of(alphas)).all()


def test_other_predictions_are_refused():
    assert schedule.is_v_prediction({"prediction_type": "v_prediction"}) and not schedule.is_v_prediction({})
    with pytest.raises(InputError, match="'sample'"):
        schedule.is_v_prediction({"prediction_type": "sample"})


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_data": 0.5, "prediction_type": "epsilon"},
        {"_class_name": "EDMEulerScheduler", **SD1},
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
        {"_class_name": "CMStochasticIterativeScheduler", "sigma_min": 0.002},
        {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True, **SD1},
        {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous", **SD1},
        {"num_train_timesteps": 1000},
    ],
)
def test_schedules_that_betas_do_not_make_are_refused(config):
    with pytest.raises(InputError, match=f"{config.get('_class_name', 'a scheduler')}.*not made of betas"):
        schedule.alphas_cumprod(config)


def test_betas_may_be_given_one_by_one():
    found = schedule.alphas_cumprod({"num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3, 0.4]})
    assert_close(found, torch.tensor([0.9, 0.72, 0.504, 0.3024]))
