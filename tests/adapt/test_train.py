from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from aai import token
from aai.adapt.train import TrainSettings, train_token
from aai.adapt.trainer import TokenTrainer
from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.prompt import Prompt
from tests.weights import fingerprint


class Recording(DiffusersPictureModel):
    """Keeps what every step was given."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.given: list[tuple] = []
        self.encoded = 0

    def denoising_loss(self, latents, cond, noise, t):
        self.given.append((latents, noise, t))
        return super().denoising_loss(latents, cond, noise, t)

    def encode_images(self, images):
        self.encoded += 1
        return super().encode_images(images)


@pytest.fixture
def model(make_parts):
    return Recording(**vars(make_parts()))


def weights_of(model) -> str:
    return fingerprint(model.unet, model.vae, *(t.model for t in model._text_encoders.values()))


def test_the_loss_falls_and_nothing_else_changes(model, f_a, images):
    before = weights_of(model)
    result = train_token(model, f_a, images, TrainSettings(steps=20, rate=0.05, rho=None), "rgb")
    assert len(result.losses) == 20 and model.encoded == 1
    assert weights_of(model) == before
    assert all(
        p.grad is None for p in [*model.unet.parameters(), *model._text_encoders["clip_l"].model.parameters()]
    )

    def loss(held) -> float:
        generator = torch.Generator().manual_seed(0)
        latents = model.encode_images(images).repeat(8, 1, 1, 1)
        noise = torch.randn(latents.shape, generator=generator)
        t = torch.arange(24) * 41
        with torch.no_grad():
            return float(
                model.denoising_loss(latents, model.encode_prompt(Prompt("a photo of *", (held,))), noise, t)
            )

    start = train_token(model, f_a, images, TrainSettings(steps=1, rate=1e-9), "rgb").token
    assert loss(result.token) < loss(start) * 0.999


def test_the_same_seed_gives_the_same_token(model, f_a, images):
    settings = TrainSettings(steps=3, seed=2**64 - 1)
    first = train_token(model, f_a, images, settings)
    torch.manual_seed(123)
    again = train_token(model, f_a, images, settings)
    assert first.losses == again.losses
    assert torch.equal(first.token.vectors["clip_l"], again.token.vectors["clip_l"])
    other = train_token(model, f_a, images, TrainSettings(steps=3, seed=4))
    assert not torch.equal(first.token.vectors["clip_l"], other.token.vectors["clip_l"])


def test_a_run_leaves_torchs_random_numbers_alone(model, f_a, images):
    state = torch.get_rng_state()
    train_token(model, f_a, images, TrainSettings(steps=1))
    assert torch.equal(torch.get_rng_state(), state)


def by_the_equation(model, f_a, given, settings: TrainSettings):
    """Eq. 6, Adam and the radius in plain loops, from a zero adapter, on the draws that a run was given."""
    text, tokenizer = model._text_encoders["clip_l"].model, model._text_encoders["clip_l"].tokenizer
    table = text.get_input_embeddings().weight
    s = sum(math.sqrt(sum(x * x for x in row)) for row in table.tolist()) / len(table)
    length = math.sqrt(sum(x * x for x in f_a.tolist()))
    heard = f_a * (s / length) if settings.scale == "vocabulary" else f_a
    ids = tokenizer("a photo of rain", padding="max_length", max_length=77)["input_ids"]
    place = 4
    adapter, m, v, losses = torch.zeros(32), torch.zeros(32), torch.zeros(32), []
    for step, (latents, noise, t) in enumerate(given, start=1):
        adapter = adapter.detach().requires_grad_()
        states = torch.stack([heard + adapter if i == place else table[k] for i, k in enumerate(ids)])
        states = states + text.embeddings.position_embedding.weight
        mask = torch.full((77, 77), -math.inf).triu(1)[None, None]
        states = text.final_layer_norm(
            text.encoder(inputs_embeds=states[None], attention_mask=mask).last_hidden_state
        )
        loss = 0
        for z, epsilon, time in zip(latents, noise, t.tolist()):
            product = 1.0
            for k in range(time + 1):
                product *= 1 - (0.00085**0.5 + k / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2
            noisy = product**0.5 * z + (1 - product) ** 0.5 * epsilon
            predicted = model.unet(noisy[None], time, encoder_hidden_states=states).sample[0]
            loss = loss + ((epsilon - predicted) ** 2).mean() / len(latents)
        (gradient,) = torch.autograd.grad(loss, adapter)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        with torch.no_grad():
            adapter = adapter - settings.rate * (m / (1 - 0.9**step)) / (
                (v / (1 - 0.999**step)).sqrt() + 1e-8
            )
            if settings.rho is not None:
                longest = settings.rho * (s if settings.scale == "vocabulary" else length)
                adapter = adapter * min(1.0, longest / math.sqrt(sum(x * x for x in adapter.tolist())))
        losses.append(loss.item())
    return heard + adapter, adapter, losses


@pytest.mark.parametrize("scale, rho", [("vocabulary", None), ("vocabulary", 0.2), ("raw", 0.001)])
def test_training_is_equation_6(model, f_a, images, scale, rho):
    settings = TrainSettings(steps=3, batch=2, init=0.0, scale=scale, rho=rho)
    result = train_token(model, f_a, images, settings, "rain")
    e, adapter, losses = by_the_equation(model, f_a, model.given, settings)
    assert result.losses == pytest.approx(losses, rel=1e-4)
    assert_close(result.token.f_adapter["clip_l"][0], adapter, atol=1e-4, rtol=1e-3)
    assert_close(result.token.vectors["clip_l"][0], e, atol=1e-4, rtol=1e-3)


def test_the_radius_holds_every_vector(model, f_a, images):
    settings = TrainSettings(steps=5, rate=0.5, rho=0.5, vectors=3)
    result = train_token(model, f_a, images, settings).token
    s = model.text_encoders["clip_l"].mean_norm
    lengths = result.f_adapter["clip_l"].norm(dim=1)
    assert result.vectors["clip_l"].shape == (3, 32)
    assert (lengths <= 0.5 * s * (1 + 1e-5)).all() and (lengths > 0.49 * s).any()
    free = train_token(model, f_a, images, TrainSettings(steps=5, rate=0.5, rho=None)).token
    assert free.f_adapter["clip_l"].norm() > s


def test_the_initial_adapter_has_the_vocabularys_spread(model, f_a, images):
    settings = TrainSettings(steps=1, rate=1e-9, vectors=40, init=0.5, rho=None)
    start = train_token(model, f_a, images, settings).token.f_adapter["clip_l"]
    assert float(start.std()) == pytest.approx(0.5 * model.text_encoders["clip_l"].std, rel=0.1)


def test_a_token_carries_all_that_made_it(model, f_a, images, tmp_path):
    settings = TrainSettings(steps=2, seed=9)
    result = train_token(model, f_a, images, settings, "storm", loudness=-18.5, provenance={"sound": "abc"})
    result.token.save(tmp_path / "storm.safetensors")
    read = token.load(tmp_path / "storm.safetensors")
    assert read.name == "storm" and read.loudness == -18.5 and torch.equal(read.f_a, f_a)
    assert read.scale["clip_l"] == pytest.approx(model.text_encoders["clip_l"].mean_norm)
    assert read.provenance == {
        "sound": "abc",
        "base": "a model that reads clip_l of 32",
        "licence": "those of the sound, the reference pictures and the base model",
        "template": "a photo of *",
        "references": "3",
        "steps": "2",
        "seed": "9",
    }
    assert torch.equal(read.with_sound(f_a).vectors["clip_l"], read.vectors["clip_l"])


def test_latents_stand_in_for_pictures(model, f_a, images):
    latents = model.encode_images(images)
    encoded = model.encoded
    a = train_token(model, f_a, latents, TrainSettings(steps=2), encoded=True)
    assert model.encoded == encoded
    b = train_token(model, f_a, images, TrainSettings(steps=2))
    assert a.losses == b.losses
    # Of three channels, as those of models that draw without an autoencoder.
    seen = []

    def loss(latents, cond, *rest):
        seen.append(latents.clone())
        return cond.cross.square().sum()

    model.denoising_loss = loss
    train_token(model, f_a, 2 * images - 1, TrainSettings(steps=1), encoded=True)
    assert all(any(torch.equal(row, 2 * image - 1) for image in images) for row in seen[0])
    with pytest.raises(InputError, match="give \\[N, 3"):
        train_token(model, f_a, latents, TrainSettings(steps=1))


def test_inference_mode_around_it_does_not_matter(model, f_a, images):
    outside = train_token(model, f_a, images, TrainSettings(steps=2))
    with torch.inference_mode():
        inside = train_token(model, f_a.clone(), images.clone(), TrainSettings(steps=2))
    assert outside.losses == inside.losses
    with torch.no_grad():
        assert train_token(model, f_a, images, TrainSettings(steps=2)).losses == outside.losses


def test_cancel_stops_within_a_step_and_hands_over_the_token(model, f_a, images):
    kept, seen = [], []

    def callback(step, steps, loss):
        seen.append((step, steps, loss))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_token(model, f_a, images, TrainSettings(steps=10), "x", callback=callback, on_stop=kept.append)
    assert len(model.given) == 3 and [s[:2] for s in seen] == [(1, 10), (2, 10), (3, 10)]
    whole = train_token(model, f_a, images, TrainSettings(steps=3), "x")
    assert kept[0].losses == whole.losses == [s[2] for s in seen]
    assert torch.equal(kept[0].token.vectors["clip_l"], whole.token.vectors["clip_l"])


def test_a_cancel_before_the_first_step_hands_over_nothing(model, f_a, images, monkeypatch):
    kept = []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(TokenTrainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_token(model, f_a, images, TrainSettings(steps=10), "x", on_stop=kept.append)
    assert not kept


def test_a_rate_that_diverges_is_named(model, f_a, images):
    kept = []
    with pytest.raises(InputError, match="diverged at step 2: lower the rate"):
        train_token(model, f_a, images, TrainSettings(steps=9, rate=1e30, rho=None), on_stop=kept.append)
    assert len(kept[0].losses) == 1
    # What is kept goes on at a lower rate.
    again = train_token(model, f_a, images, TrainSettings(steps=9, rho=None), resume=kept[0].token)
    assert len(again.losses) == 8 and all(map(math.isfinite, again.losses))


def test_an_average_lags_behind(model, f_a, images):
    settings = dict(steps=6, rate=0.05, rho=None, init=0.0)
    last = train_token(model, f_a, images, TrainSettings(**settings)).token.f_adapter["clip_l"]
    mean = train_token(model, f_a, images, TrainSettings(**settings, average=0.9)).token.f_adapter["clip_l"]
    assert 0.2 * last.norm() < mean.norm() < last.norm()


@pytest.mark.parametrize("kind", ["stratified", "antithetic", "uniform"])
def test_timesteps_are_uniform(model, f_a, images, kind):
    train_token(model, f_a, images, TrainSettings(steps=25, batch=4, timesteps=kind))
    drawn = torch.stack([t for _, _, t in model.given])
    assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() <= 999
    if kind == "stratified":
        assert all(sorted(t // 250 for t in row) == [0, 1, 2, 3] for row in drawn.tolist())
        assert (drawn.flatten().sort().values - torch.arange(100) * 10).abs().max() < 20
    elif kind == "antithetic":
        assert ((drawn[:, 0] + drawn[:, 2] - 999).abs() <= 1).all()
    else:
        assert len({t // 250 for t in drawn.flatten().tolist()}) == 4


def test_every_picture_is_used_as_often(model, f_a, images):
    train_token(model, f_a, images, TrainSettings(steps=6, batch=2))
    used = torch.cat([latents for latents, _, _ in model.given])
    latents = model.encode_images(images)
    counts = [sum(torch.equal(row, one) for row in used) for one in latents]
    assert counts == [4, 4, 4]


def test_a_batch_may_exceed_the_pictures(model, f_a, images):
    train_token(model, f_a, images[:1], TrainSettings(steps=1, batch=5))
    assert len(model.given[0][0]) == 5


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(steps=0), "0 steps"),
        (dict(rate=0), "rate of 0"),
        (dict(batch=0), "batch of 0"),
        (dict(vectors=0), "0 vectors"),
        (dict(scale="big"), "'big'"),
        (dict(rho=0.0), "rho = 0.0"),
        (dict(init=-1), "-1"),
        (dict(timesteps="late"), "'late'"),
        (dict(average=1.0), "1.0"),
    ],
)
def test_settings_that_cannot_train_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        TrainSettings(**change)


def test_bad_inputs_are_named(model, f_a, images):
    for sound, pictures, settings, sentence in (
        (torch.randn(512), images, TrainSettings(), "512 numbers.*clip_l.*32"),
        (f_a * math.nan, images, TrainSettings(), "finite"),
        (f_a * 0, images, TrainSettings(), "embedding"),
        (f_a[None], images, TrainSettings(), r"\[1, 32\]"),
        (f_a, images[:0], TrainSettings(), "no reference pictures"),
        (f_a, images[0], TrainSettings(), "shape"),
        (f_a, images * math.inf, TrainSettings(), "finite"),
        (f_a, images, TrainSettings(template="a photo"), r"'a photo' has no \*"),
    ):
        with pytest.raises(InputError, match=sentence):
            train_token(model, sound, pictures, settings)
    assert not model.given


def test_what_is_watched_is_the_token_of_a_shorter_training(model, f_a, images):
    told, seen = dict(rate=0.02, batch=2, seed=3), {}

    def watch(result):
        seen[len(result.losses)] = result.token

    settings = TrainSettings(steps=5, **told)
    result = train_token(model, f_a, images, settings, "rgb", watch=watch, watch_every=2)
    assert list(seen) == [2, 4, 5]
    shorter = train_token(model, f_a, images, TrainSettings(steps=2, **told), "rgb").token
    assert torch.equal(seen[2].vectors["clip_l"], shorter.vectors["clip_l"])
    assert seen[2].provenance == shorter.provenance
    assert torch.equal(seen[5].vectors["clip_l"], result.token.vectors["clip_l"])
