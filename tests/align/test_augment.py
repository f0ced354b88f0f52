"""Augmentation of filter banks."""

import pytest
import torch

from aai.align.augment import AUGMENTATIONS, Augment, spec_augment


def test_spec_augment_hides_and_turns_but_invents_nothing():
    fbanks = torch.rand(4, 64, 32)
    changed = spec_augment(fbanks, torch.Generator().manual_seed(0), floor=-1.0)
    assert changed.shape == fbanks.shape
    for row, old in zip(changed, fbanks):
        kept = row[row != -1.0]
        assert torch.isin(kept, old).all()
        assert len(kept) < old.numel()


def test_gain_is_what_a_louder_recording_would_give(folder, make_encoder, tone, tiny):
    """Up to 6 dB on the filter bank against the waveform at that level; unasked, nothing moves."""
    encoder = make_encoder()
    sound = tone(440, 0.64, 0)
    bank = encoder.fbanks(sound.waveform)
    still = Augment(hide=False)
    assert torch.equal(still(bank, tiny, torch.Generator()), bank)
    generator = torch.Generator().manual_seed(3)
    decibels = 6 * (2 * torch.rand((), generator=torch.Generator().manual_seed(3)).item() - 1)
    louder = Augment(hide=False, gain=6.0)(bank, tiny, generator)
    expected = encoder.fbanks(sound.waveform * 10 ** (decibels / 20))
    heard = slice(0, 60)
    torch.testing.assert_close(louder[:, heard], expected[:, heard], atol=1e-3, rtol=1e-3)
    noisy = Augment(hide=False, noise=True)(bank, tiny, torch.Generator().manual_seed(0))
    assert 0 < (noisy - bank).abs().max() <= 0.1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_go_by_their_names(name, tiny):
    named = Augment.named(name, 3.0)
    assert (named.name, named.gain) == (name, 3.0)
    assert Augment.named("none") is None
    bank = torch.rand(2, 64, 32)
    changed = named(bank, tiny, torch.Generator().manual_seed(0))
    assert changed.shape == bank.shape and not torch.equal(changed, bank)
    assert torch.equal(changed, named(bank, tiny, torch.Generator().manual_seed(0)))


def test_the_papers_augmentation_is_noise_and_turns():
    assert Augment.named("noise") == Augment(hide=False, noise=True, turn=True)
