"""Alignment tunes the audio branch and nothing else, and sounds land where their words are."""

import copy
import dataclasses
import json
import math
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aai.align.augment import spec_augment
from aai.align.checkpoint import Checkpoint
from aai.align.losses import momentum_contrastive
from aai.align.settings import AlignSettings
from aai.align.train import Pairs, align, eq1, follow
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.errors import InputError

TINY = CAVMAEConfig(
    dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16, seconds=0.64
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CAVMAE(TINY).eval()


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    fbanks = torch.randn(8, TINY.frames, TINY.mel_bins, generator=generator)
    f_t, f_v = (torch.randn(8, TINY.dim, generator=generator) for _ in range(2))
    return Pairs(fbanks, f_t, f_v, torch.arange(8))


def test_a_twin_of_the_frozen_visual_encoder_gives_no_loss(model, pairs):
    """The paper's words taken literally: an EMA of an encoder that stands still is that encoder, so q = p."""
    images = torch.randn(8, 3, 32, 32)
    twin, seen = copy.deepcopy(model), model.visual_features(images)
    for _ in range(5):
        with torch.no_grad():
            for parameter in model.audio_parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for follower, parameter in zip(twin.visual_parameters(), model.visual_parameters()):
                follower.lerp_(parameter, 0.005)
    f_a = model.audio_features(pairs.fbanks).detach().requires_grad_()
    f_v, q_v = model.visual_features(images), twin.visual_features(images)
    assert torch.equal(f_v, seen)
    loss = momentum_contrastive(f_a, f_v, f_a, q_v, 0.05)
    assert loss.item() == 0
    # p - q is 0 but for how softmax rounds.
    assert torch.autograd.grad(loss, f_a)[0].abs().max() < 1e-5


def test_literal_momentum_is_that_twin(model, pairs):
    _, figures = eq1(model, None, pairs, AlignSettings(momentum="literal"), alpha=0.4, keep=None)
    assert figures["l_t"] == 0
    assert figures["a_v"] > 0
    result = align(model, lambda *_: pairs, AlignSettings(steps=5, batch=8, rate=1e-2, momentum="literal"))
    assert [figures["l_t"] for figures in result.curve] == [0] * 5


def test_a_shared_block_that_sound_moves_leaves_its_twin_behind(pairs):
    torch.manual_seed(0)
    model = CAVMAE(TINY, share_unified=True).eval()
    images = torch.randn(8, 3, 32, 32)
    seen, frozen = model.visual_features(images).detach(), model.visual_tokens(images).detach()
    batch = dataclasses.replace(pairs, tokens_v=frozen)
    settings = AlignSettings(steps=10, batch=8, rate=1e-2, warmup=1, momentum="literal_shared")
    curve = align(model, lambda *_: batch, settings).curve
    assert curve[0]["l_t"] == pytest.approx(0, abs=1e-6)
    assert curve[-1]["l_t"] > 1e-4
    assert not torch.allclose(model.visual_features(images), seen, atol=1e-3)
    assert torch.equal(model.visual_tokens(images), frozen)


def test_momentum_and_model_must_fit(model, pairs):
    with pytest.raises(InputError, match="share_unified"):
        align(model, lambda *_: pairs, AlignSettings(momentum="literal_shared"))
    with pytest.raises(InputError, match="share_unified"):
        align(CAVMAE(TINY, share_unified=True), lambda *_: pairs, AlignSettings())


def test_the_twin_follows_by_its_share(model):
    twin = copy.deepcopy(model)
    start = twin.modality_a.clone()
    with torch.no_grad():
        model.modality_a.add_(1)
        model.modality_v.add_(1)
    follow(twin, model, 0.995)
    torch.testing.assert_close(twin.modality_a, start + 0.005)
    assert torch.equal(twin.modality_v + 1, model.modality_v)


def test_a_twin_of_the_audio_branch_gives_a_loss_once_they_differ(model, pairs):
    twin = copy.deepcopy(model)
    assert eq1(model, twin, pairs, AlignSettings(), 0.4, None)[1]["l_t"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        twin.blocks_a[0].mlp.fc2.weight.mul_(-20)
    assert eq1(model, twin, pairs, AlignSettings(), 0.4, None)[1]["l_t"] > 1e-4


def test_alignment_moves_sounds_to_their_words_and_leaves_sight_alone(model, pairs):
    before = copy.deepcopy(model)
    images = torch.randn(3, 3, 32, 32)
    settings = AlignSettings(steps=40, batch=8, rate=3e-3, warmup=5)
    curve = align(model, lambda generator, size: pairs, settings).curve
    assert curve[-1]["a_t"] < 0.5 * curve[0]["a_t"]
    torch.testing.assert_close(model.visual_features(images), before.visual_features(images), rtol=0, atol=0)
    tuned = {id(p) for p in model.audio_parameters()}
    for (name, after), old in zip(model.named_parameters(), before.parameters()):
        assert not after.requires_grad
        if id(after) not in tuned:
            assert torch.equal(after, old), name


def test_a_stop_keeps_what_was_learned(model, pairs):
    before = model.patch_embed_a.proj.weight.clone()

    def stop(step, total, figures):
        if step == 3:
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        align(model, lambda generator, size: pairs, AlignSettings(steps=100), stop, on_stop=kept.append)
    assert [(result.step, len(result.curve), result.measured) for result in kept] == [(3, 3, None)]
    assert not torch.equal(before, model.patch_embed_a.proj.weight)
    assert not any(p.requires_grad for p in model.parameters())


def test_the_best_measured_weights_stay(model, pairs):
    """A quality that peaks at the second of four measurements, and a stop after the third."""
    seen = []

    def measure(tuned):
        seen.append(tuned.modality_a.clone())
        return (0.5, 0.9, 0.7, 0.8)[len(seen) - 1]

    def stop(step, total, figures):
        if step == 7:
            raise KeyboardInterrupt

    settings = AlignSettings(steps=8, batch=8, rate=1e-2, warmup=1)
    kept = []
    with pytest.raises(KeyboardInterrupt):
        align(model, lambda *_: pairs, settings, stop, measure, measure_every=2, on_stop=kept.append)
    assert [(result.step, len(result.curve), result.measured) for result in kept] == [(4, 7, 0.9)]
    assert len(seen) == 3 and not torch.equal(seen[1], seen[2])
    assert torch.equal(model.modality_a, seen[1])
    seen.clear()
    result = align(model, lambda *_: pairs, settings, None, measure, measure_every=2)
    assert (result.step, result.measured, len(result.curve)) == (4, 0.9, 8)
    assert torch.equal(model.modality_a, seen[1])


def test_a_rate_that_diverges_is_named_and_leaves_the_weights(model, pairs):
    before = copy.deepcopy(model)
    settings = AlignSettings(steps=9, batch=8, rate=1e30, warmup=1)
    with pytest.raises(InputError, match="diverged at step 2: lower the rate[.]"):
        align(model, lambda *_: pairs, settings)
    assert all(torch.equal(own, old) for own, old in zip(model.parameters(), before.parameters()))
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("measured, kept", [(None, 3), ((0.9, 0.5), 2)])
def test_where_a_training_diverges_the_best_so_far_stays(model, pairs, measured, kept):
    """Measured after steps 2 and 4, or of the lowest loss, that of the weights which step 4 begins with."""
    broken = dataclasses.replace(pairs, f_t=torch.full_like(pairs.f_t, torch.nan))
    dealt, seen = iter([*[pairs] * 5, broken]), []
    quality, stopped = iter(measured or ()), []
    with pytest.raises(InputError, match="diverged at step 6: lower the rate[.]"):
        align(
            model, lambda *_: next(dealt), AlignSettings(steps=9, batch=8, rate=3e-3, warmup=1),
            lambda *_: seen.append(model.modality_a.clone()),
            (lambda _: next(quality)) if measured else None, measure_every=2, on_stop=stopped.append,
        )  # fmt: skip
    assert [(result.step, len(result.curve)) for result in stopped] == [(kept, 5)]
    assert len(seen) == 5 and len(torch.stack(seen).unique(dim=0)) == 5
    assert torch.equal(model.modality_a, seen[kept - 1])


def test_a_diverged_training_goes_on_from_its_state_with_a_lower_rate(model, pairs, tmp_path):
    broken = dataclasses.replace(pairs, f_t=torch.full_like(pairs.f_t, torch.nan))
    dealt = iter([*[pairs] * 3, broken])
    settings = AlignSettings(steps=6, batch=8, rate=1e-2, warmup=1)
    kept, rates = Checkpoint(tmp_path / "state", 2), []
    with pytest.raises(InputError, match="step 4: lower the rate, and it goes on from its last state"):
        align(model, lambda *_: next(dealt), settings, checkpoint=kept)
    lower = dataclasses.replace(settings, rate=1e-3)
    curve = align(
        model, lambda *_: pairs, lower, lambda _, __, told: rates.append(told["rate"]), checkpoint=kept
    ).curve
    assert len(curve) == 6 and len(rates) == 4
    assert 0 < min(rates) and max(rates) < 1e-3 and rates == sorted(rates, reverse=True)


def test_a_step_tells_its_figures(model, pairs):
    told = []
    settings = AlignSettings(steps=4, batch=8, warmup=2, alpha=0.4, ramp_steps=2, learn_tau=True, tau=0.07)
    result = align(
        model, lambda *_: pairs, settings, lambda *all_: told.append(all_[2]), lambda _: 0.5, measure_every=2
    )
    assert [figures["alpha"] for figures in told] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert [figures.get("measured") for figures in told] == [None, 0.5, None, 0.5]
    assert told[0]["rate"] < told[1]["rate"] > told[3]["rate"] and told[1]["tau"] == result.tau != 0.07
    assert [{k: figures[k] for k in ("loss", "a_t", "a_v", "l_t")} for figures in told] == result.curve


def test_the_papers_schedule_is_one_rate_and_clips_nothing(model, pairs):
    """CAV-MAE's fine-tuning holds its rate through ten epochs; betas (0.95, 0.999), AdamW's eps 1e-8."""
    settings = AlignSettings(
        steps=4, batch=8, rate=1e-3, schedule="paper", alpha=0, momentum="none", tau=0.001
    )
    theirs = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(theirs.audio_parameters(), 1e-3, betas=(0.95, 0.999), weight_decay=0.02)
    lengths = []
    for _ in range(4):
        optimizer.zero_grad()
        eq1(theirs, None, pairs, settings, 0.0, None)[0].backward()
        gradients = [p.grad.flatten() for p in theirs.audio_parameters() if p.grad is not None]
        lengths.append(torch.cat(gradients).norm().item())
        optimizer.step()
    assert min(lengths) > 2
    told = []
    align(model, lambda *_: pairs, settings, lambda *all_: told.append(all_[2]["rate"]))
    assert told == [1e-3] * 4
    for ours, expected in zip(model.audio_parameters(), theirs.audio_parameters()):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match="no schedule 'linear'"):
        AlignSettings(schedule="linear")


def test_a_state_from_before_there_were_schedules_goes_on(model, pairs, tmp_path):
    state = Checkpoint(tmp_path / "state", every=1)
    align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8), checkpoint=state)
    with safe_open(str(state.path), "pt") as file:
        told, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    facts = json.loads(told["facts"])
    del facts["settings"]["schedule"]
    save_file(tensors, str(state.path), {**told, "facts": json.dumps(facts)})
    result = align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8), checkpoint=state)
    assert len(result.curve) == 2
    with pytest.raises(InputError, match="schedule cosine, not paper"):
        align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8, schedule="paper"), checkpoint=state)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate")])
def test_too_little_memory_is_said_and_what_is_trained_kept(model, pairs, error):
    dealt, kept = [pairs, pairs], []

    def batches(generator, size):
        if dealt:
            return dealt.pop()
        raise error

    with pytest.raises(InputError, match="Memory ran out at step 3: lower the batch"):
        align(model, batches, AlignSettings(steps=9, batch=8), on_stop=kept.append)
    assert [result.step for result in kept] == [2]


def test_the_temperature_is_learned_within_its_range(model, pairs):
    fixed = align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8))
    assert fixed.tau == pytest.approx(0.05)
    settings = AlignSettings(steps=30, batch=8, rate=0.02, warmup=1, tau=0.07, learn_tau=True)
    assert align(model, lambda *_: pairs, settings).tau != pytest.approx(0.07, abs=1e-3)
    settings = AlignSettings(steps=3, batch=8, rate=5.0, warmup=1, tau=0.07, learn_tau=True)
    assert 0.001 <= align(model, lambda *_: pairs, settings).tau <= 0.5 + 1e-6


def test_the_same_seed_gives_the_same_curve(model, pairs):
    settings = AlignSettings(steps=3, batch=8, keep=0.5, seed=4)
    curves = [align(copy.deepcopy(model), lambda *_: pairs, settings).curve for _ in range(2)]
    assert curves[0] == curves[1]


def test_patchout_hears_a_share_of_the_patches(model, pairs):
    keep = torch.tensor([[0, 3]] * 8)
    some, all_of_them = model.audio_features(pairs.fbanks, keep), model.audio_features(pairs.fbanks)
    assert some.shape == all_of_them.shape
    in_order = torch.arange(TINY.audio_tokens).expand(8, -1)
    torch.testing.assert_close(model.audio_features(pairs.fbanks, in_order), all_of_them)


def test_a_step_over_several_batches_has_their_mean_gradient(model, pairs):
    rows = {k: getattr(pairs, k).split(4) for k in ("fbanks", "f_t", "f_v", "labels")}
    halves = [Pairs(**{k: parts[i] for k, parts in rows.items()}) for i in range(2)]
    settings = AlignSettings(steps=1, batch=4, accumulate=2, momentum="none")
    losses = [eq1(model, None, half, settings, 0.0, None)[0] for half in halves]
    expected = torch.autograd.grad(sum(losses) / 2, model.modality_a)[0]
    dealt = iter(halves)
    curve = align(model, lambda *_: next(dealt), settings).curve
    assert curve[0]["loss"] == pytest.approx(sum(loss.item() for loss in losses) / 2)
    # Gradients are clipped as a whole, so their direction tells.
    assert torch.cosine_similarity(model.modality_a.grad.flatten(), expected.flatten(), dim=0) > 0.9999


def test_bfloat16_hears_nearly_the_same_and_learns_in_float32(model, pairs):
    whole = eq1(model, copy.deepcopy(model), pairs, AlignSettings(), 0.4, None)[0]
    half = eq1(model, copy.deepcopy(model), pairs, AlignSettings(bf16=True), 0.4, None)[0]
    assert half.dtype == torch.float32 and whole.item() != half.item()
    assert half.item() == pytest.approx(whole.item(), rel=0.05)
    settings = AlignSettings(steps=40, batch=8, rate=3e-3, warmup=5, bf16=True)
    curve = align(model, lambda *_: pairs, settings).curve
    assert curve[-1]["a_t"] < 0.5 * curve[0]["a_t"]
    assert all(p.dtype == torch.float32 for p in model.parameters())


class Shuffled:
    """Batches with a place of their own in the data."""

    def __init__(self, pairs):
        self.pairs, self.count = pairs, torch.zeros((), dtype=torch.int64)

    def __call__(self, generator, size):
        self.count = self.count + 1
        rows = torch.randperm(8, generator=generator)[:size].roll(int(self.count))
        kept = {k: getattr(self.pairs, k)[rows] for k in ("fbanks", "f_t", "f_v", "labels")}
        return dataclasses.replace(self.pairs, **kept)

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


def test_a_stopped_training_goes_on_to_the_same_curve_and_weights(model, pairs, tmp_path):
    settings = AlignSettings(
        steps=12, batch=6, rate=1e-3, warmup=2, ramp_steps=4, keep=0.5, learn_tau=True, m=0.9
    )
    models = [copy.deepcopy(model) for _ in range(3)]
    quality = {4: 0.9, 8: 0.5, 12: 0.7}

    def run(model, name, stop=None):
        seen = []

        def callback(step, total, figures):
            seen.append(step)
            if step == stop:
                raise KeyboardInterrupt

        at = iter(step for step in (4, 8, 12) if step > (0 if name == "whole" or stop else 5))
        result = align(
            model, Shuffled(pairs), settings, callback, lambda _: quality[next(at)], 4,
            checkpoint=Checkpoint(tmp_path / name, every=5, about="these"),
        )  # fmt: skip
        return result, seen

    whole, _ = run(models[0], "whole")
    with pytest.raises(KeyboardInterrupt):
        run(models[1], "stopped", stop=7)
    again, seen = run(models[2], "stopped")
    assert seen[0] == 6
    assert again.curve == whole.curve and again.tau == whole.tau
    assert (again.step, again.measured) == (whole.step, whole.measured) == (4, 0.9)
    for own, other in zip(models[2].parameters(), models[0].parameters()):
        assert torch.equal(own, other)
    finished, seen = run(copy.deepcopy(model), "stopped")
    assert finished.curve == whole.curve and not seen
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "whole"]


def test_a_state_goes_on_only_with_what_it_was_begun_with(model, pairs, tmp_path):
    settings = AlignSettings(steps=2, batch=8)
    words = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    kept = Checkpoint(tmp_path / "state", 1, "these", words)
    align(copy.deepcopy(model), lambda *_: pairs, settings, checkpoint=kept)
    rounded, other_words = words * (1 + 1e-5), words.roll(1, 0)
    for other, about, f_t, says in (
        (dataclasses.replace(settings, tau=0.1), "these", words, "tau 0.05, not 0.1"),
        # Of a training that is done, another rate has no step to take.
        (dataclasses.replace(settings, rate=1.0), "these", words, "rate 5e-05, not 1.0"),
        (settings, "those", words, "other data"),
        (settings, "these", other_words, "another encoder, text encoder or other data"),
        (settings, "these", words[:1], "another encoder, text encoder or other data"),
    ):
        with pytest.raises(InputError, match=says):
            align(model, lambda *_: pairs, other, checkpoint=Checkpoint(kept.path, 1, about, f_t))
    # Another number of threads rounds otherwise.
    again = Checkpoint(kept.path, 1, "these", rounded)
    assert len(align(model, lambda *_: pairs, settings, checkpoint=again).curve) == 2
    for content in (b"", b"not a state" * 10):
        (tmp_path / "torn").write_bytes(content)
        with pytest.raises(InputError, match="torn.*training state"):
            align(model, lambda *_: pairs, settings, checkpoint=Checkpoint(tmp_path / "torn"))


def test_a_disk_that_fills_up_leaves_the_last_state(model, pairs, tmp_path):
    resource = pytest.importorskip("resource")
    kept = Checkpoint(tmp_path / "state", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, total, figures):
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    try:
        with pytest.raises(InputError, match="training's state cannot be saved"):
            align(model, lambda *_: pairs, AlignSettings(steps=4, batch=8), fill, checkpoint=kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    result = align(model, lambda *_: pairs, AlignSettings(steps=4, batch=8), checkpoint=kept)
    assert len(result.curve) == 4


def test_a_state_is_on_the_disk_before_it_takes_the_last_ones_place(model, pairs, tmp_path, monkeypatch):
    done, sync, move = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(os.fstat(number).st_ino), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("moved"), move(*paths)))
    kept = Checkpoint(tmp_path / "state", 1)
    align(model, lambda *_: pairs, AlignSettings(steps=1, batch=8), checkpoint=kept)
    assert done == [kept.path.stat().st_ino, "moved"]


@pytest.mark.parametrize("settings", [{"accumulate": 0}, {"warmup": 0}, {"keep": 0.0}, {"keep": 1.5}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        AlignSettings(**settings)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rate", (0.0, -1e-3, math.nan, math.inf)),
        ("tau", (0.0, -0.05, 1.0, math.nan, math.inf)),
        ("weight_decay", (-0.1, math.nan, math.inf)),
        ("alpha", (-0.1, 1.5, math.nan)),
        ("m", (-0.1, 1.5, math.nan)),
    ],
)
def test_numbers_that_cannot_train_are_named(name, values):
    for value in values:
        with pytest.raises(InputError, match=f"{name} of {value:g}"):
            AlignSettings(**{name: value})


def test_an_unknown_momentum_is_refused():
    with pytest.raises(InputError, match="fast"):
        AlignSettings(momentum="fast")


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match="1 sounds"):
        AlignSettings(batch=1)


def test_spec_augment_hides_and_turns_but_invents_nothing():
    fbanks = torch.rand(4, 64, 32)
    changed = spec_augment(fbanks, torch.Generator().manual_seed(0), floor=-1.0)
    assert changed.shape == fbanks.shape
    for row, old in zip(changed, fbanks):
        kept = row[row != -1.0]
        assert torch.isin(kept, old).all()
        assert len(kept) < old.numel()
