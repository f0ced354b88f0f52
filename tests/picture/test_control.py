"""A control that is written from the protocols alone steers a picture model."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt

STEPS = 3


class Pairs:
    """Two pictures a seed, the second as the first: a Control, its ControlRun and its Injection in one, which
    writes down what it is asked."""

    rows = 2
    latent_size = None
    scales, words, film = (), (), None

    def __init__(self, null=None):
        self.calls: list[str] = []
        self.shares: list[float] = []
        self.null = null

    def check_model(self, fingerprint):
        self.calls.append("check_model")

    def begin(self, size, steps, guidance):
        self.calls.append("begin")
        self.size, self.steps, self.guidance = tuple(size), steps, guidance
        return self

    def initial_noise(self, noise, sigma):
        self.calls.append("initial_noise")
        assert noise.shape == (2, *self.size)
        return noise + torch.tensor([0.0, 1.0])[:, None, None, None]

    def groups(self, rows):
        return [list(rows[i : i + 2]) for i in range(0, len(rows), 2)]

    def before_model(self, x, sigma):
        self.calls.append("before_model")
        # The second picture's own latents differ from the first's, and the model is not shown them.
        return x[:1].expand_as(x)

    def unconditional(self, sigma):
        self.calls.append("unconditional")
        return self.null

    def injection(self, progress, steps, token_ids, length):
        self.calls.append("injection")
        self.shares.append(progress)
        assert steps == self.steps and len(token_ids) == 1 and length == len(token_ids[0])
        return self

    def to(self, like):
        return self

    def observe(self, attend, q, k, groups, size):
        self.calls.append("observe")
        assert size == self.size[1:] and q.ndim == k.ndim == 4

    def cross_attention(self, attend, q, k, v, groups, attend_rest=None):
        self.calls.append("cross_attention")
        return attend(q, k, v)

    def self_attention(self, x, groups, size):
        self.calls.append("self_attention")
        return x

    def after_model(self, predictions, prompted, progress):
        self.calls.append("after_model")
        assert prompted == len(predictions) - 1
        return predictions


@pytest.fixture
def model(make_parts):
    return DiffusersPictureModel(**vars(make_parts()))


def drawn(model, control, guidance):
    with torch.no_grad():
        cond, uncond = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt(""))
        return model.sample(cond, uncond, seeds=[3], steps=STEPS, guidance=guidance, edit=control)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_control_is_asked_in_order_at_every_step(model, guidance):
    control = Pairs()
    first, second = drawn(model, control, guidance)
    layers = [call for call in control.calls if call in ("observe", "cross_attention", "self_attention")]
    steps = [call for call in control.calls if call not in layers]
    assert steps[:3] == ["check_model", "begin", "initial_noise"] and control.guidance == guidance
    each = {"before_model", "injection", "unconditional", "after_model"}
    for at in range(3, len(steps), 4):
        step = steps[at : at + 4]
        assert set(step) == each and step[0] == "before_model" and step[-1] == "after_model"
    assert len(steps) == 3 + 4 * STEPS and control.shares == [i / STEPS for i in range(STEPS)]
    crossed = [call for call in layers if call != "self_attention"]
    assert crossed and crossed == ["observe", "cross_attention"] * (len(crossed) // 2)
    # A batch of two rounds otherwise than one.
    assert_close(first, drawn(model, None, guidance)[0], rtol=0, atol=1e-3)
    # Whatever its own noise, the model saw the first in its place.
    assert_close(second, first, rtol=0, atol=1e-3)


def test_an_unconditional_embedding_takes_the_usual_ones_place(model):
    with torch.no_grad():
        null = model.encode_prompt(Prompt("fire")).cross[0]
        usual = model.encode_prompt(Prompt("")).cross[0]
    plain = drawn(model, None, 4.0)[0]
    assert_close(drawn(model, Pairs(usual), 4.0)[0], plain, rtol=0, atol=1e-3)
    assert not torch.allclose(drawn(model, Pairs(null), 4.0)[0], plain, atol=0.1)


def test_a_control_may_refuse_a_model_or_a_size(model):
    class Refusing(Pairs):
        def check_model(self, fingerprint):
            assert fingerprint == model.fingerprint
            raise InputError("another model")

    class OfItsOwnSize(Pairs):
        latent_size = (4, 8, 16)

    class OfAFilm(Pairs):
        film = object()

    with pytest.raises(InputError, match="another model"):
        drawn(model, Refusing(), 4.0)
    assert drawn(model, OfItsOwnSize(), 4.0).shape == (2, 4, 8, 16)
    with pytest.raises(InputError, match="is for a video model"):
        drawn(model, OfAFilm(), 4.0)
