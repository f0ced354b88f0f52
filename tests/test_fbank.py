"""The filter bank against Kaldi's, as torchaudio has it."""

import pytest
import torch
import torchaudio

from aai.fbank import fbank, samples_of


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_fbank_is_kaldis(rate, make_noise):
    waves = torch.cat([make_noise(1.2, rate, seed=s).waveform for s in range(3)])
    ours = fbank(waves, rate, mel_bins=64, frames=None)
    for wave, row in zip(waves, ours):
        theirs = torchaudio.compliance.kaldi.fbank(
            (wave - wave.mean())[None], htk_compat=True, sample_frequency=rate, use_energy=False,
            window_type="hanning", num_mel_bins=64, dither=0.0, frame_shift=10,
        )  # fmt: skip
        torch.testing.assert_close(row, theirs, rtol=0, atol=2e-4)


def test_fbank_pads_with_zeros_and_cuts(make_noise):
    wave = make_noise(0.5).waveform
    whole = fbank(wave, frames=None)
    padded, cut = fbank(wave, frames=100), fbank(wave, frames=20)
    torch.testing.assert_close(padded[:, : whole.shape[1]], whole)
    assert (padded[:, whole.shape[1] :] == 0).all() and padded.shape == (1, 100, 128)
    torch.testing.assert_close(cut, whole[:, :20])
    assert torch.isfinite(fbank(torch.zeros(1, 10))).all()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_so_many_samples_make_so_many_frames(make_noise, rate):
    wave = make_noise(0.5, rate).waveform
    for samples, frames in ((samples_of(20, rate), 20), (samples_of(20, rate) - 1, 19)):
        assert fbank(wave[:, :samples], rate, frames=None).shape[1] == frames
