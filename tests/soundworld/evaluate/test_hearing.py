"""How SoundWorld's encoder is judged: which recordings, which windows, which mixtures."""

import pytest
import torch

from aai.audio import from_tensor, load, loudness, save
from aai.errors import InputError
from aai.soundworld.evaluate import hearing
from aai.soundworld.loaders import load_sound_encoder
from aai.soundworld.sounds import synthesize


def test_recordings_are_those_of_one_fold(tmp_path):
    (tmp_path / "rain").mkdir()
    for name in ("1-2-A.ogg", "4-9-A.ogg"):
        (tmp_path / "rain" / name).touch()
    assert hearing.recordings_of(tmp_path, 4) == [("rain", tmp_path / "rain" / "4-9-A.ogg")]
    with pytest.raises(InputError, match="no recordings of fold 3"):
        hearing.recordings_of(tmp_path, 3)


def test_unseen_sounds_are_named():
    named = hearing.name_synthetic(load_sound_encoder(), count=3)
    assert (named.hits, named.count) == (3, 3)


def test_windows_leave_out_pauses_and_rests():
    rain = synthesize("rain", 0.6, 3, seconds=2.0)
    silence = torch.zeros(1, 16000)
    sound = from_tensor(torch.cat([rain.waveform, silence, rain.waveform[:, :24000]], dim=1), 16000)
    windows = hearing.windows_of(sound, 1.0)
    assert [window.waveform.shape[1] for window in windows] == [16000] * 3
    short = synthesize("dog", 0.6, 3, seconds=0.5)
    assert hearing.windows_of(short, 1.0) == [short]


def test_mixtures_are_taken_apart_and_measured_against_the_truth():
    figures = hearing.taken_apart(load_sound_encoder(), count=4, alone=2)
    assert figures["one at least named"].value == 1 and figures["both named"].count == 4
    assert figures["both named, 6 dB apart and more"].count == 2
    assert 0 <= figures["loudness off, LU, median"] < 6
    assert figures["alone, but told as two"].count == 2


def test_the_levels_of_a_mixture_are_those_of_its_sounds():
    both, (first, second) = hearing.mixed("rain", "rooster", 6.0, 1)
    assert first - second == pytest.approx(6) and first <= loudness(both) + 0.1
    alone, (only, _) = hearing.mixed("rain", "rooster", 90.0, 1)
    assert only == pytest.approx(loudness(alone), abs=0.1)


def test_a_mixture_is_two_sounds_so_far_apart(tmp_path):
    both = hearing.mixture("rain", "rooster", 6.0, 1)
    alone = hearing.mixture("rain", "rooster", 90.0, 1)
    assert loudness(both) == pytest.approx(loudness(alone), abs=0.3)
    # What is left when the first is taken away, at the level it has in the mixture, is 6 dB below.
    scale = (alone.waveform * both.waveform).sum() / alone.waveform.square().sum()
    rest = from_tensor(both.waveform - scale * alone.waveform, both.rate)
    save(rest, tmp_path / "rest.wav")
    assert loudness(load(tmp_path / "rest.wav")) - loudness(alone) == pytest.approx(-7, abs=1.5)
