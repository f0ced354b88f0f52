"""A few real training steps of SoundWorld's ears, and their targets."""

import pytest
import torch
from torch import nn

from aai.encoders.cavmae import CAVMAE
from aai.soundworld.build.clips import OUTSIDE, Clip, Heard, Mixer
from aai.soundworld.build.hearing import Ears, Targets, losses, train_ears, wanted
from aai.soundworld.build.sound_encoder import CONFIG, level_vectors


@pytest.fixture
def mixer():
    generator = torch.Generator().manual_seed(0)
    clips = [
        Clip(torch.randn(120, 128, generator=generator).half() - 6, number, -25.0, "noise")
        for number in (*range(10), OUTSIDE)
    ]
    return Mixer(clips, [])


@pytest.fixture
def targets(caption_encoder):
    text = level_vectors(caption_encoder).flatten(0, 1).detach()
    return Targets(text, torch.randn(100, 192), torch.arange(50).repeat(2))


def ears():
    torch.manual_seed(0)
    return Ears(CAVMAE(CONFIG))


def test_a_mixtures_words_share_what_is_heard():
    heard = Heard(
        torch.zeros(3, 1, 1),
        torch.zeros(3, 1),
        torch.tensor([0, 2, OUTSIDE]),
        torch.tensor([OUTSIDE, 1, OUTSIDE]),
        torch.tensor([0.0, 0.3, 0.0]),
        torch.tensor([4, 11, 0]),
        torch.tensor([1, 1, 0]),
        torch.tensor([OUTSIDE, OUTSIDE, 0]),
    )
    targets = wanted(heard, 50)
    torch.testing.assert_close(targets.sum(-1), torch.ones(3))
    assert targets[0, 4] == 1 and targets[1, 11] == pytest.approx(0.7)
    # The louder one is at the second level: the softer one at the first or the second.
    torch.testing.assert_close(targets[1, 5:10], torch.tensor([0.15, 0.15, 0, 0, 0]))


def test_pictures_are_of_the_label(targets):
    labels = torch.tensor([7, 7, 31])
    shown = targets.pictures(labels, torch.Generator().manual_seed(0))
    for label, vector in zip(labels.tolist(), shown):
        assert any(torch.equal(vector, targets.visual[row]) for row in (label, label + 50))


def test_training_moves_the_audio_branch_and_the_test_alone(mixer, targets):
    trained = ears()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    seen = []
    averaged = train_ears(
        trained,
        mixer,
        targets,
        3,
        1e-3,
        batch=12,
        patches=(6, 12),
        callback=lambda step, parts: seen.append(parts),
    )
    changed = {name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any("blocks_a" in name for name in changed) and any(name.startswith("head") for name in changed)
    assert not any("blocks_v" in name or "blocks_u_v" in name or "norm_v" in name for name in changed)
    assert len(seen) == 3 and all(torch.isfinite(torch.tensor(list(parts.values()))).all() for parts in seen)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    known = averaged.known(0.3)
    f_a = torch.randn(4, 192)
    expected = averaged.head(torch.nn.functional.normalize(f_a, dim=-1))[:, 0]
    torch.testing.assert_close(known.logits(f_a), expected)


def test_a_stopped_training_goes_on(mixer, targets, tmp_path):
    def run(state, stop=None):
        def callback(step, parts):
            if step == stop:
                raise KeyboardInterrupt

        return train_ears(
            ears(), mixer, targets, 120, 1e-3, batch=4, patches=(4, 8), state=state, callback=callback
        )

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "ears.state", stop=110)
    again = run(tmp_path / "ears.state")
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_sounds_of_no_word_are_not_told_apart(mixer, targets):
    heard = mixer.batch(torch.Generator().manual_seed(0), 24, 16)
    strangers = nn.Linear(192, 1)
    parts = losses(ears(), heard, targets, strangers, torch.Generator().manual_seed(0))
    assert parts["uniform"] >= 0 and 0 <= parts["right"] <= 1 and parts["loss"].requires_grad
    # Of one kind alone nothing is to be told.
    assert parts["strangers"] == 0


def test_kinds_of_no_word_are_told_from_each_other(mixer, targets):
    heard = mixer.batch(torch.Generator().manual_seed(0), 24, 16)
    trained, kinds = ears(), nn.Linear(192, 3)
    losses(trained, heard, targets, kinds, torch.Generator().manual_seed(0))["strangers"].backward()
    assert kinds.weight.grad.abs().sum() > 0 and trained.model.norm_a.weight.grad.abs().sum() > 0
