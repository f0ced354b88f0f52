"""Command lines of `aai`: every command and option of its parser, with values that fit and that do not."""

from __future__ import annotations

import argparse

from hypothesis import strategies as st

from . import seeds
from .example import FIFO, FOLDER, LOOP, Example
from .strategies import mostly, texts

PASSED_BY = {"demo", "study references", "study adapter", "study compare"}
"""A server, and what draws for hours as it should."""
FEW = {
    **{"--train-steps": "1", "--steps": "1", "--invert-steps": "2", "--frames": "2", "--keep": "1"},
    **{"--batch": "2", "--size": "16", "--workers": "1", "-k": "1"},
}
"""What is said of the numbers that stand for work: their defaults take minutes."""


NUMBERS = {"positive", "finite", "limit"}
"""The command line's own types of numbers."""


def commands_of(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """{"align train": its parser} of every command."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        return {name: parser}
    return {
        key: value
        for word, sub in inner[0].choices.items()
        for key, value in commands_of(sub, f"{name} {word}".strip()).items()
    }


FILES = [
    "rain.wav",
    "fire.flac",
    "caf\udce9.wav",
    "house.png",
    "rain.safetensors",
    "encoder.safetensors",
    "data",
]
FILES += [
    "way.safetensors",
    "photos",
    "list.csv",
    "none",
    "",
    ".",
    "/",
    "n" * 300,
    "out.safetensors",
    "loop",
    "pipe",
]
FILES += ["new.safetensors", "new.png", "new/x.png", "/dev/null", "out", "a\0b"]
FITTING = {
    **{"--encoder": "soundworld", "--model": "soundworld", "--text": "soundworld", "--refs": "photos"},
    **{"--token": "rain.safetensors", "--mask": "house.png", "--picture": "house.png", "--csv": "list.csv"},
    **{"--trajectory": "way.safetensors", "--resume": "rain.safetensors", "--source": "a city"},
    **{"SOUND": "rain.wav", "FILE": "rain.wav", "PICTURE": "house.png", "TOKEN": "rain.safetensors"},
    **{"DATA": "data", "DIR": "data", "FOLDER": "photos", "LIBRARY": "photos", "SOURCE": "data"},
    **{"PROMPT": "a city under *", "WORDS": "*", "NAME": "x", "S": "0.5"},
}


@st.composite
def commands(draw) -> Example:
    from aai.cli import _parser
    from aai.cli.arguments import TOGETHER

    known = {name: parser for name, parser in commands_of(_parser()).items() if name not in PASSED_BY}
    name = draw(st.sampled_from(sorted(known)))
    arguments = name.split()
    places, options = [], []
    for action in known[name]._actions:
        flag = action.option_strings[-1] if action.option_strings else ""
        if flag in ("--help", "--device") or not (flag or action.nargs != 0):
            continue
        if flag and not action.required and flag not in FEW and draw(st.integers(0, 6)):
            continue
        value = draw(_value(action, flag, name))
        if flag:
            # argparse takes what begins with - for an option.
            words = [f"{flag}={value}"] if value[:1] == "-" and flag[:2] == "--" else [flag, value]
            options.append([flag] if action.nargs == 0 else words)
        elif draw(st.integers(0, 30)):
            places.append(value)
    if draw(st.integers(0, 6)):
        options = _together(options, TOGETHER.get(name, ()))
    arguments += [*places, *(word for words in options for word in words)]
    files = {
        "rain.wav": seeds.sounds()["wav"],
        "fire.flac": seeds.sounds()["flac"],
        "photos/a.png": seeds.pictures()["png"],
    }
    files |= {
        "caf\udce9.wav": seeds.sounds()["wav"],
        "house.png": seeds.pictures()["png"],
        "loop": LOOP,
        "pipe": FIFO,
    }
    files |= {
        "rain.safetensors": seeds.tokens()[0],
        "way.safetensors": seeds.trajectories()[0],
        "out": FOLDER,
    }
    files |= {"list.csv": b"id,label\na.wav,rain\n", **seeds.align_run()}
    return Example("command", "command", {"arguments": [word.replace("\0", "") for word in arguments]}, files)


def _together(options: list[list[str]], rules) -> list[list[str]]:
    """The options, without those that do nothing with the others."""
    for rule in rules:
        given = {words[0].partition("=")[0] for words in options}
        lacking = rule.needs and not given & {need.split()[0] for need in rule.needs}
        if lacking or given & set(rule.beside):
            options = [words for words in options if words[0].partition("=")[0] not in rule.options]
    return options


def _value(action: argparse.Action, flag: str, command: str):
    if action.choices:
        return mostly(st.sampled_from(sorted(map(str, action.choices))), texts)
    if flag in FEW:
        return st.sampled_from([*[FEW[flag]] * 60, "0", "-1", "x", "", "1.5", "nan"])
    if flag in ("-o", "--output"):
        ending = ".png" if command in ("generate", "edit", "library search") else ".safetensors"
        fit = "out" if command == "data prepare" else "new" + ending
        return mostly(st.just(fit), st.sampled_from(FILES))
    if flag in ("--width", "--height", "--count", "--questions", "--vectors", "--shards"):
        return mostly(st.sampled_from(["1", "2", "8", "64"]), st.sampled_from(["0", "-8", "4", "nan"]))
    if action.type is float or action.type is int or getattr(action.type, "__name__", "") in NUMBERS:
        small = st.sampled_from(["0", "1", "2", "0.5", "-1", "nan", "inf", "-inf", "1e308", "1,5", "", "x"])
        return small if flag != "--seed" else st.sampled_from(["0", "-1", str(2**64), str(2**70), "x"])
    fitting = FITTING.get(flag) or FITTING.get(str(action.metavar), "x")
    return mostly(st.just(fitting), st.one_of(st.sampled_from(FILES), texts))
