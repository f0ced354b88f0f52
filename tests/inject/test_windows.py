"""A sound window by window: where the windows lie, what they hold, and that a file needs no more memory than
a block."""

import math
from types import SimpleNamespace

import pytest
import torch

from aai import audio
from aai.audio import Sound
from aai.errors import InputError
from aai.inject.windows import embed_windows

RATE = 8000


class Ear:
    """Hears a sound's mean level and its length: what a window holds can be read from its vector."""

    dim, labels, label_vectors, tau, known, name = 2, ["a", "b"], torch.eye(2), 0.1, None, "ear"
    family = "ear"

    def embed(self, sounds, own_length=False):
        return torch.tensor([[float(s.waveform.abs().mean()), s.seconds] for s in sounds])

    def state(self):
        return {"w": torch.ones(2)}, {}


def stairs(seconds: float) -> Sound:
    """Noise that is louder in every second."""
    generator = torch.Generator().manual_seed(0)
    samples = 0.01 * torch.randn(1, round(seconds * RATE), generator=generator)
    return Sound(samples * (1 + torch.arange(samples.shape[1]) // RATE), RATE)


def blocks(sound: Sound, size: int):
    for part in sound.waveform.split(size, dim=1):
        yield Sound(part, sound.rate)


@pytest.mark.parametrize("size", [700, 8000, 10**6])
def test_windows_are_the_same_however_the_sound_comes(size):
    sound = stairs(5.3)
    windows = embed_windows(blocks(sound, size), Ear(), window=1.0, hop=0.5)
    assert len(windows.f_a) == math.ceil(5.3 / 0.5)
    for number, vector in enumerate(windows.f_a):
        begin = min(max((number + 0.5) * 0.5 - 0.5, 0.0), 5.3 - 1.0)
        held = sound.cut(round(begin * RATE) / RATE, 1.0)
        assert torch.allclose(vector, Ear().embed([held])[0], atol=1e-6), number


def test_a_sound_shorter_than_a_window_is_one():
    windows = embed_windows([stairs(0.6)], Ear(), window=2.0)
    assert torch.allclose(windows.f_a[:, 1], torch.full((3,), 0.6))
    with pytest.raises(InputError, match="too short to hear"):
        embed_windows([stairs(0.05)], Ear())


def test_silence_is_not_heard_nor_a_constant():
    asked = []
    ear = Ear()
    ear.embed = lambda sounds, own_length: asked.append(len(sounds)) or torch.ones(len(sounds), 2)
    silent = Sound(
        torch.cat([stairs(2).waveform, torch.zeros(1, 3 * RATE), torch.full((1, 3 * RATE), 0.5)], 1), RATE
    )
    windows = embed_windows([silent], ear, window=0.5, hop=0.5)
    # The edge of the constant sounds; what is within it does not.
    assert windows.silent.tolist() == [False] * 4 + [True] * 6 + windows.silent.tolist()[10:]
    assert windows.silent.tolist()[12:] == [True] * 4 and sum(asked) == int((~windows.silent).sum())
    assert not windows.f_a[windows.silent].any()


def test_the_windows_as_one_sound():
    sound = Sound(torch.cat([stairs(2).waveform, torch.zeros(1, 2 * RATE)], 1), RATE)
    whole = embed_windows([sound], Ear(), window=0.5, hop=0.5, name="stairs").whole()
    assert whole.f_a[1] == 0.5 and whole.sound == "stairs" and whole.fingerprint
    assert math.isclose(whole.loudness, audio.loudness(sound), abs_tol=0.1)


def test_a_file_is_streamed(tmp_path, monkeypatch):
    audio.save(stairs(6.0), tmp_path / "six.wav")
    monkeypatch.setattr(audio, "MOST_SAMPLES", 3 * RATE)
    with pytest.raises(audio.TooLong, match="by its start and its length"):
        audio.load(tmp_path / "six.wav")
    longest = []

    def watched():
        for block in audio.stream(tmp_path / "six.wav", block=1.0):
            longest.append(block.seconds)
            yield block

    windows = embed_windows(watched(), Ear(), window=1.0)
    assert windows.seconds == 6.0 and max(longest) == 1.0 and audio.length(tmp_path / "six.wav") == 6.0
    part = audio.stream(tmp_path / "six.wav", 1.5, 2.0, block=0.8)
    joined = torch.cat([block.waveform for block in part], 1)
    monkeypatch.undo()
    assert torch.equal(joined, audio.load(tmp_path / "six.wav", 1.5, 2.0).waveform)


@pytest.mark.parametrize(("window", "hop"), [(0.01, 0.25), (math.nan, 0.25), (1.0, 0.0), (100.0, 0.25)])
def test_windows_out_of_range_get_a_sentence(window, hop):
    with pytest.raises(InputError, match="cannot be taken"):
        embed_windows([stairs(1)], Ear(), window, hop)


def test_an_encoder_without_words_gets_a_sentence_and_a_callback_may_stop_it():
    deaf = SimpleNamespace(labels=[], name="deaf")
    with pytest.raises(InputError, match="align or bridge it first"):
        embed_windows([stairs(1)], deaf)

    def stop(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_windows([stairs(1)], Ear(), callback=stop)
