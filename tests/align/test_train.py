"""Alignment tunes the audio branch and nothing else, and sounds land where their words are."""

import copy
import dataclasses

import pytest
import torch

from aai.align.checkpoint import Checkpoint
from aai.align.losses import info_nce, momentum_contrastive
from aai.align.settings import AlignSettings
from aai.align.train import AlignTrainer, Pairs, align, eq1, follow
from aai.distributed import ALONE
from aai.encoders.cavmae import CAVMAE
from aai.errors import InputError


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


def test_a_shared_block_that_sound_moves_leaves_its_twin_behind(pairs, tiny):
    torch.manual_seed(0)
    model = CAVMAE(tiny, share_unified=True).eval()
    images = torch.randn(8, 3, 32, 32)
    seen, frozen = model.visual_features(images).detach(), model.visual_tokens(images).detach()
    batch = dataclasses.replace(pairs, tokens_v=frozen)
    settings = AlignSettings(steps=10, batch=8, rate=1e-2, warmup=1, momentum="literal_shared")
    curve = align(model, lambda *_: batch, settings).curve
    assert curve[0]["l_t"] == pytest.approx(0, abs=1e-6)
    assert curve[-1]["l_t"] > 1e-4
    assert not torch.allclose(model.visual_features(images), seen, atol=1e-3)
    assert torch.equal(model.visual_tokens(images), frozen)


def test_momentum_and_model_must_fit(model, pairs, tiny):
    with pytest.raises(InputError, match="share_unified"):
        align(model, lambda *_: pairs, AlignSettings(momentum="literal_shared"))
    with pytest.raises(InputError, match="share_unified"):
        align(CAVMAE(tiny, share_unified=True), lambda *_: pairs, AlignSettings())


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
    assert kept[0].last == 0.7
    assert len(seen) == 3 and not torch.equal(seen[1], seen[2])
    assert torch.equal(model.modality_a, seen[1])
    seen.clear()
    result = align(model, lambda *_: pairs, settings, None, measure, measure_every=2)
    assert (result.step, result.measured, result.last, len(result.curve)) == (4, 0.9, 0.8, 8)
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


def test_patchout_hears_a_share_of_the_patches(model, pairs, tiny):
    keep = torch.tensor([[0, 3]] * 8)
    some, all_of_them = model.audio_features(pairs.fbanks, keep), model.audio_features(pairs.fbanks)
    assert some.shape == all_of_them.shape
    in_order = torch.arange(tiny.audio_tokens).expand(8, -1)
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


def test_the_plain_form_is_eq_1_to_the_bit(model, pairs):
    """Every step: the twin's pass, all patches, float32; against the equations written out."""
    settings = AlignSettings(steps=5, batch=8, rate=1e-3, schedule="paper", ramp_steps=2, m=0.9)
    theirs = copy.deepcopy(model)
    twin = copy.deepcopy(theirs)
    optimizer = torch.optim.AdamW(theirs.audio_parameters(), 1e-3, betas=(0.95, 0.999), weight_decay=0.02)
    curve = []
    for step in range(5):
        alpha = 0.4 * min(1, step / 2)
        f_a, q_a = theirs.audio_features(pairs.fbanks), twin.audio_features(pairs.fbanks).detach()
        a_t, a_v = info_nce(f_a, pairs.f_t, 0.05), info_nce(f_a, pairs.f_v, 0.05)
        l_t = momentum_contrastive(f_a, pairs.f_v, q_a, pairs.f_v, 0.05)
        loss = a_t + (1 - alpha) * a_v + alpha / 2 * l_t
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for follower, parameter in zip(twin.audio_parameters(), theirs.audio_parameters()):
                follower.lerp_(parameter, 1 - 0.9)
        curve.append({"loss": loss.item(), "a_t": a_t.item(), "a_v": a_v.item(), "l_t": l_t.item()})
    assert align(model, lambda *_: pairs, settings).curve == curve
    assert all(torch.equal(own, other) for own, other in zip(model.parameters(), theirs.parameters()))


def test_a_twin_that_rests_follows_and_counts_for_the_steps_between(model, pairs):
    settings = AlignSettings(steps=4, batch=8, rate=1e-2, schedule="paper", ramp_steps=0, m=0.9, twin_every=2)
    trainer, lost, twins = AlignTrainer(model, lambda *_: pairs, settings, ALONE), [], []
    trainer.begin(None)
    for step in range(4):
        twins.append(trainer.twin.modality_a.clone())
        losses = trainer.gradients(step)[0]
        trainer.update(losses)
        lost.append(losses)
    assert [losses["l_t"] > 1e-4 for losses in lost] == [False, False, True, False]
    assert [losses["l_t"] == 0 for losses in lost[1::2]] == [True, True]
    for losses, alpha, times in zip(lost, (0, 0.4, 0.4, 0.4), (2, 0, 2, 0)):
        expected = losses["a_t"] + (1 - alpha) * losses["a_v"] + alpha / 2 * times * losses["l_t"]
        assert losses["loss"] == pytest.approx(expected)
    assert torch.equal(twins[0], twins[1]) and torch.equal(twins[2], twins[3])
    torch.testing.assert_close(trainer.twin.modality_a, twins[3].lerp(model.modality_a, 1 - 0.9**2))


@pytest.mark.parametrize(
    "form", [{"bf16": True}, {"keep": 0.5}, {"twin_every": 2}, {"bf16": True, "keep": 0.5, "twin_every": 2}]
)
def test_each_cheaper_form_learns_the_same_batch(model, pairs, form):
    settings = AlignSettings(steps=60, batch=8, rate=3e-3, warmup=5, **form)
    before = eq1(model, None, pairs, AlignSettings(momentum="none"), 0.0, None)[1]
    curve = align(model, lambda *_: pairs, settings).curve
    # What was heard in part is known as a whole, too.
    after = eq1(model, None, pairs, AlignSettings(momentum="none"), 0.0, None)[1]
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    assert after["a_t"] < 0.7 * before["a_t"]


def test_a_training_that_resumes_knows_the_twins_turn(model, pairs, tmp_path):
    settings = AlignSettings(steps=6, batch=8, rate=1e-2, warmup=1, ramp_steps=1, m=0.5, twin_every=2)
    whole = align(copy.deepcopy(model), lambda *_: pairs, settings).curve

    def stop(step, total, figures):
        if step == 3:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=3)
    with pytest.raises(KeyboardInterrupt):
        align(copy.deepcopy(model), lambda *_: pairs, settings, stop, checkpoint=checkpoint)
    assert align(model, lambda *_: pairs, settings, checkpoint=checkpoint).curve == whole


def test_bfloat16_hears_nearly_the_same_and_learns_in_float32(model, pairs):
    whole = eq1(model, copy.deepcopy(model), pairs, AlignSettings(), 0.4, None)[0]
    half = eq1(model, copy.deepcopy(model), pairs, AlignSettings(bf16=True), 0.4, None)[0]
    assert half.dtype == torch.float32 and whole.item() != half.item()
    assert half.item() == pytest.approx(whole.item(), rel=0.05)
    settings = AlignSettings(steps=40, batch=8, rate=3e-3, warmup=5, bf16=True)
    curve = align(model, lambda *_: pairs, settings).curve
    assert curve[-1]["a_t"] < 0.5 * curve[0]["a_t"]
    assert all(p.dtype == torch.float32 for p in model.parameters())
