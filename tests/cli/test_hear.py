"""`aai hear`: words and loudness of any sound file."""

import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from aai import audio
from aai.encoders.loaders import save as save_encoder
from aai.soundworld.evaluate.hearing import mixed
from aai.soundworld.loaders import load_sound_encoder
from aai.soundworld.outside import synthesize_outside
from aai.soundworld.sounds import synthesize

ROOT = Path(__file__).parents[2]


def test_hear_says_words_and_loudness(aai):
    code, out, err = aai("hear", "rain.wav", "dog.flac", "--json")
    rows = json.loads(out)
    assert code == 0 and not err
    assert [row["file"] for row in rows] == ["rain.wav", "dog.flac"]
    assert all(set(row) == {"file", "lufs", "words", "known", "unknown"} for row in rows)
    assert all(len(row["words"]) == 3 and row["known"] is True and row["unknown"] < 0.5 for row in rows)
    assert rows[0]["words"][0]["word"] == "rain" and rows[1]["words"][0]["word"] == "a dog"
    assert abs(rows[0]["lufs"] - audio.loudness(audio.load("rain.wav"))) < 0.01
    code, out, _ = aai("hear", "rain.wav", "--words", "1")
    assert code == 0 and out.startswith("rain.wav  (") and "rain " in out and out.count("%") == 2


def test_two_sounds_of_a_recording_are_told_apart(aai, folder):
    sound, levels = mixed("rain", "rooster", 5.0, 3)
    audio.save(sound, folder / "yard.wav")
    code, out, _ = aai("hear", "yard.wav", "--sounds", "2", "--json")
    (yard,) = json.loads(out)
    assert code == 0 and {part["word"] for part in yard["sounds"]} == {"rain", "a rooster"}
    assert sum(part["share"] for part in yard["sounds"]) == pytest.approx(1, abs=1e-3)
    code, out, _ = aai("hear", "yard.wav", "--sounds", "2")
    assert code == 0 and "    a rooster: -" in out and "% of the sound" in out


def test_a_sound_that_the_world_has_no_word_for_is_unknown(aai, folder):
    for kind in ("speech", "strings", "signals"):
        audio.save(synthesize_outside(kind, 77), folder / f"{kind}.wav")
    code, out, _ = aai("hear", "speech.wav", "strings.wav", "signals.wav", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["known"] for row in rows] == [False] * 3
    code, out, _ = aai("hear", "speech.wav", "--words", "1")
    assert "unknown" in out and "outside of what this encoder knows" in out


def write_wav(path, samples: np.ndarray, rate: int = 16000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("rate", "channels", "seconds"),
    [(8000, 1, 2), (192000, 8, 1), (48000, 2, 0.2), (8000, 1, 1200)],
    ids=["8 kHz", "192 kHz of 8 channels", "0.2 s", "20 minutes"],
)
def test_unusual_sounds_are_heard(aai, folder, rate, channels, seconds):
    noise = np.random.default_rng(0).normal(0, 0.1, (int(rate * seconds), channels)).clip(-1, 1)
    write_wav(folder / "unusual.wav", noise, rate)
    code, out, err = aai("hear", "unusual.wav", "--json")
    assert code == 0, err
    assert len(json.loads(out)[0]["words"]) == 3


def click(rate: int) -> np.ndarray:
    silence = np.zeros((3 * rate, 1))
    silence[rate : rate + 40] = 0.9
    return silence


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.full((800, 1), 0.5), "too short to hear"),
        (np.full((32000, 1), 0.5), "silent"),
        (np.sign(np.random.default_rng(0).normal(0, 1, (32000, 1))), None),
        (click(16000), None),
        (np.random.default_rng(0).normal(0, 0.1, (1600, 1)), None),
    ],
    ids=["0.05 s", "a constant", "clipped", "silence with one click", "0.1 s"],
)
def test_odd_sounds_end_in_words_or_a_sentence(aai, folder, samples, says):
    write_wav(folder / "odd.wav", samples)
    code, out, err = aai("hear", "odd.wav", "--json")
    (row,) = json.loads(out)
    if says:
        assert code == 2 and says in err and says in row["error"]
    else:
        shares = sum(word["score"] for word in row["words"]) + row["unknown"]
        assert code == 0 and isinstance(row["known"], bool) and 0 < shares <= 1.001


def test_telephone_sound_is_heard(aai, folder):
    """8 kHz, and nothing below 300 or above 3400 Hz."""
    rooster = synthesize("rooster", 0.8, 9_000_123).resample(8000).waveform[0].numpy()
    band = signal.sosfilt(signal.butter(4, (300, 3400), "bandpass", fs=8000, output="sos"), rooster)
    write_wav(folder / "call.wav", band[:, None], 8000)
    code, out, _ = aai("hear", "call.wav", "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["words"][0]["word"] == "a rooster"


def test_an_encoder_without_calibration_says_nothing_of_what_it_knows(aai, folder):
    encoder = load_sound_encoder()
    encoder.known = None
    save_encoder(encoder, folder / "plain.safetensors")
    code, out, _ = aai("hear", "rain.wav", "--encoder", "plain.safetensors", "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["known"] is None and row["unknown"] is None
    assert sum(word["score"] for word in row["words"]) <= 1.001


def test_a_bad_sound_does_not_lose_the_others(aai, folder):
    (folder / "text.wav").write_text("no sound at all " * 99, encoding="utf-8")
    code, out, err = aai("hear", "rain.wav", "text.wav", "nowhere.wav", "dog.flac", "--json")
    rows = json.loads(out)
    assert code == 2 and err.count("\n") == 2 and err.count("aai: ") == 2
    assert [row["file"] for row in rows] == ["rain.wav", "text.wav", "nowhere.wav", "dog.flac"]
    assert [set(row) for row in rows[1:3]] == [{"file", "error"}] * 2 and "text.wav" in rows[1]["error"]
    assert rows[0]["words"][0]["word"] == "rain" and rows[3]["words"][0]["word"] == "a dog"
    code, out, err = aai("hear", "nowhere.wav", "rain.wav")
    assert code == 2 and out.startswith("rain.wav  (") and "nowhere.wav" in err


@pytest.mark.skipif(os.name != "posix", reason="names are bytes where POSIX has them")
@pytest.mark.parametrize("arguments", [("hear",), ("hear", "--json")], ids=" ".join)
def test_a_name_that_is_not_utf8_is_told_escaped(folder, arguments):
    name = b"caf\xe9.wav"
    shutil.copy(folder / "rain.wav", os.path.join(os.fsencode(folder), name))
    command = [sys.executable, "-m", "aai", *arguments, name, b"gone\xe9.wav"]
    done = subprocess.run(
        command, capture_output=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    assert done.returncode == 2 and "Traceback" not in err and "gone\\udce9.wav" in err
    if "--json" in arguments:
        assert [row["file"] for row in json.loads(out)] == ["caf\\udce9.wav", "gone\\udce9.wav"]
    else:
        assert out.startswith("caf\\udce9.wav  (")
