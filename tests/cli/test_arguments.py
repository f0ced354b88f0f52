"""What several commands take: sounds that cannot be heard, and cuts that are none, get one sentence."""

import wave

import numpy as np
import pytest


@pytest.mark.parametrize("cut", [("--start", "nan"), ("--start", "inf"), ("--length", "inf")], ids=" ".join)
def test_a_cut_that_is_no_number_gets_one_sentence(aai, cut):
    code, out, err = aai("hear", "rain.wav", *cut)
    assert code == 2 and not out and "rain.wav' cannot be cut" in err and err.count("\n") == 1


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "command",
    [
        ("generate", "-o", "no.png", "--guidance"),
        ("generate", "-o", "no.png", "--reference"),
        ("edit", "--source", "a", "--edited", "a *", "-o", "no.png", "--guidance"),
        ("edit", "--source", "a", "--edited", "a *", "-o", "no.png", "--source-guidance"),
        ("film", "rain.wav", "--source", "a", "--edited", "a *", "-o", "no.mp4", "--guidance"),
        ("invert", "pictures/0.png", "--prompt", "a", "-o", "no.safetensors", "--guidance"),
        ("token", "rain.wav", "-o", "no.safetensors", "--rho"),
        ("adapt", "train", "photos", "-o", "no.safetensors", "--rho"),
        ("align", "train", "photos", "-o", "no.safetensors", "--gain"),
        ("data", "prepare", "photos", "-o", "no", "--seconds"),
        ("study", "adapter", "--guidance"),
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_a_number_that_is_not_finite_is_refused(aai, capsys, command, value):
    with pytest.raises(SystemExit) as stop:
        aai(*command[:-1], f"{command[-1]}={value}")
    assert stop.value.code == 2
    assert f"argument {command[-1]}: {value} is no finite number" in capsys.readouterr().err


def write_wav(path, samples: np.ndarray, rate: int = 16000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def write_bad_sounds(folder):
    (folder / "zero.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes((folder / "rain.wav").read_bytes()[:30])
    (folder / "text.wav").write_text("no sound at all " * 99, encoding="utf-8")
    write_wav(folder / "silent.wav", np.zeros((16000, 1)))
    write_wav(folder / "short.wav", np.full((800, 1), 0.5))
    header = (folder / "rain.wav").read_bytes()[:44]
    floats = np.full(16000, np.nan, "<f4").tobytes()
    header = header[:20] + b"\x03\x00" + header[22:]
    header = header[:28] + (64000).to_bytes(4, "little") + b"\x04\x00\x20\x00data"
    (folder / "nan.wav").write_bytes(header[:40] + len(floats).to_bytes(4, "little") + floats)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.wav", "no file"),
        ("zero.wav", "empty"),
        ("cut.wav", "cannot be read"),
        ("text.wav", "cannot be read"),
        ("silent.wav", "silent"),
        ("short.wav", "0.05 s"),
        ("nan.wav", "NaN"),
    ],
)
@pytest.mark.parametrize("command", ["hear", "token"])
def test_bad_sounds_get_one_sentence(aai, folder, command, name, says):
    write_bad_sounds(folder)
    arguments = (name,) if command == "hear" else (name, "-o", "bad.safetensors")
    code, out, err = aai(command, *arguments)
    assert code == 2 and not out
    assert says in err and name in err and err.count("\n") == 1
    assert not (folder / "bad.safetensors").exists()
