"""What several commands take: sounds that cannot be heard, and cuts that are none, get one sentence."""

import wave

import numpy as np
import pytest

from aai import cli
from aai.cli.arguments import TOGETHER
from aai.cli.training import TRAINING


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


@pytest.mark.parametrize(
    "command",
    [("token", "rain.wav", "-o", "no.safetensors"), ("adapt", "train", "photos", "-o", "no.safetensors")],
    ids=lambda command: command[0],
)
def test_no_limit_is_called_as_it_is_typed(aai, capsys, command):
    with pytest.raises(SystemExit):
        aai(*command, "--rho", "-1")
    told = capsys.readouterr().err
    assert "argument --rho: -1 is below 0: take a number above 0, or 0 for no limit" in told


GENERATE = ("generate", "--token", "nowhere.safetensors", "-o", "no.png")
EDIT = ("edit", "--token", "nowhere.safetensors", "--edited", "a *", "-o", "no.png")
TOKEN = ("token", "nowhere.wav", "-o", "no.safetensors")
FILM = ("film", "nowhere.wav", "--source", "a", "--edited", "a *", "-o", "no.mp4")
INVERT = ("invert", "nowhere.png", "--prompt", "a", "-o", "no.safetensors")


@pytest.mark.parametrize(
    ("command", "given", "told"),
    [
        *(
            (command, (option, *value), f"so {option} does nothing: give --sound too")
            for command in (GENERATE, EDIT)
            for option, *value in (
                *(
                    ("--start", "0"),
                    ("--length", "2"),
                    ("--name", "x"),
                    ("--refs", "auto"),
                    ("--rate", "0.1"),
                ),
                *(("--encoder", "soundworld"), ("--train-steps", "60"), ("--adapter", "x"), ("--instant",)),
                *(("-k", "4"), ("--checkpointing",), ("--licence", "mine")),
            )
        ),
        *(
            (command, ("--instant", option, *value), f"so {option} does nothing beside --instant")
            for command in (TOKEN, (*GENERATE, "--sound", "nowhere.wav"))
            for option, *value in (
                *(("--refs", "auto"), ("--clip", "x"), ("-k", "4"), ("--train-steps", "60")),
                *(("--checkpointing",), ("--rho", "0"), ("--resume", "x")),
            )
        ),
        (TOKEN, ("--clip", "x"), "so --clip does nothing: give --refs too"),
        (TOKEN, ("--patience", "3"), "so --patience does nothing: give --validate too"),
        (TOKEN, ("--kappa", "1", "--norm", "soft"), "so --kappa does nothing: give --norm direction too"),
        (GENERATE, ("--reference", "-23"), "so --reference does nothing: give --scale loudness too"),
        (
            GENERATE,
            ("--reference", "-20", "--scale", "1"),
            "so --reference does nothing: give --scale loudness too",
        ),
        *(
            (
                command,
                (option, "0.5"),
                f"{option} does nothing: give --blend or --blend-changes too",
            )
            for command in ((*EDIT, "--source", "a"), FILM)
            for option in ("--blend-start", "--blend-threshold")
        ),
        *(
            (EDIT, (source, "x", option, "64"), f"so {option} does nothing beside {source}")
            for source in ("--picture", "--trajectory")
            for option in ("--width", "--height")
        ),
        (FILM, ("--token", "x", "--adapter", "x"), "so --adapter does nothing beside --token"),
        (INVERT, ("--guidance", "5"), "so --guidance does nothing: give --null-text too"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_does_nothing_with_the_other_options_is_told_first(aai, command, given, told):
    code, out, err = aai(*command, *given)
    assert code == 2 and not out and told in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (TOKEN, ("--start", "0", "--refs", "x", "--clip", "x", "--patience", "2", "--validate", "3")),
        (TOKEN, ("--instant", "--adapter", "x", "--name", "x", "--encoder", "x", "--licence", "x")),
        (GENERATE, ("--sound", "x", "--rho", "0", "--scale", "loudness", "--reference", "-20")),
        (EDIT, ("--picture", "x", "--null-text", "--guidance", "3", "--blend", "*", "--blend-start", "0")),
        (FILM, ("--adapter", "x", "--reference", "-20", "--blend", "*", "--blend-threshold", "0")),
        (INVERT, ("--guidance", "5", "--null-text")),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_what_goes_together_is_not_refused(aai, command, given):
    code, _, err = aai(*command, *given)
    assert code == 2 and "does nothing" not in err


@pytest.mark.parametrize("command", TOGETHER)
def test_every_rule_is_of_options_that_its_command_has(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    shown = capsys.readouterr().out.split()
    hidden = {f"--{name.replace('_', '-')}" for name, *_ in TRAINING} | {"--checkpointing", "--resume"}
    hidden |= {"--licence"}
    for rule in TOGETHER[command]:
        named = {option.split()[0] for option in (*rule.options, *rule.needs, *rule.beside)}
        assert {f"[{name}" for name in named - hidden} <= {word.rstrip("]") for word in shown}


def test_the_defaults_of_what_was_not_given_are_shown(capsys):
    with pytest.raises(SystemExit):
        cli.main(["generate", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for said in ("encoder's file (soundworld)", "in seconds (0)", "SoundWorld's own (auto)", "sound (4)",
                 "training steps (60)", "--scale loudness (-23)"):  # fmt: skip
        assert said in shown


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
        ("nowhere.wav", "There is no file"),
        ("pictures", "'pictures' is a folder"),
        ("/dev/null", "is no file, but a device or a pipe"),
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
