"""Text is UTF-8 whatever the machine's encoding: no file is opened without its encoding being named."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    file for name in ("aai", "nodes", "bench", "docs", "tests") for file in (ROOT / name).rglob("*.py")
)
# `open` of these gives bytes, or is no file's.
NOT_TEXT = {"wave_module", "Image", "av", "os", "tarfile", "wave", "webbrowser"}
# Methods of our own that are called `open`.
OWN = {"file", "page", "self", "self.pictures[i]", "self.sound"}
# Calls that hold text unless their mode says bytes, and the place of that mode among their arguments.
MODES = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0, "SpooledTemporaryFile": 1}
ALWAYS_TEXT = {
    "read_text": 0,
    "write_text": 1,
    "FileHandler": 2,
    "TextIOWrapper": 1,
    "loadtxt": None,
    "savetxt": None,
}


def unnamed(code: str) -> list[int]:
    """Lines of `code` that open text, a text file or a process's text, without naming its encoding."""
    return [
        call.lineno
        for call in ast.walk(ast.parse(code))
        if isinstance(call, ast.Call) and _is_text(call) and not _is_named(call)
    ]


def _name(call: ast.Call) -> tuple[str, str]:
    if isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value), call.func.attr
    return "", call.func.id if isinstance(call.func, ast.Name) else ""


def _is_text(call: ast.Call) -> bool:
    of, name = _name(call)
    given = {k.arg: k.value for k in call.keywords}
    if name in ALWAYS_TEXT:
        return True
    if name == "basicConfig":
        return "filename" in given
    if name in MODES and of not in NOT_TEXT | OWN:
        # A path's own `open` has its mode first.
        place = (
            0 if name == "open" and of and of not in ("io", "codecs", "gzip", "bz2", "lzma") else MODES[name]
        )
        mode = given.get("mode") or (call.args[place] if len(call.args) > place else None)
        if mode is None:
            return name in ("open", "fdopen") and of not in ("gzip", "bz2", "lzma")
        return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
    texts = [given[k] for k in ("text", "universal_newlines") if k in given]
    return of == "subprocess" and any(not isinstance(t, ast.Constant) or t.value for t in texts)


def _is_named(call: ast.Call) -> bool:
    place = ALWAYS_TEXT.get(_name(call)[1])
    return any(k.arg == "encoding" for k in call.keywords) or (place is not None and len(call.args) > place)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_text_names_its_encoding(path):
    lines = unnamed(path.read_text(encoding="utf-8"))
    assert not lines, f"{path.relative_to(ROOT)} opens text without encoding= in line {lines}"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(words)", True),
        ("path.write_text(words, 'utf-8')", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("open(path, 'w', encoding='utf-8')", False),
        ("open(path, mode)", True),
        ("path.open()", True),
        ("path.open('a')", True),
        ("path.open('ab')", False),
        ("os.fdopen(number, 'w')", False),
        ("Image.open(path)", False),
        ("NamedTemporaryFile()", False),
        ("NamedTemporaryFile('w')", True),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, text=True, encoding='utf-8')", False),
        ("subprocess.run(command, capture_output=True)", False),
        ("logging.FileHandler(path)", True),
    ],
)
def test_what_counts_as_unnamed(code, found):
    assert bool(unnamed(code)) == found


def in_ascii(code: str, *arguments: str) -> str:
    """What `code` prints in a process whose text is ASCII unless it says otherwise."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"} | plain
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_soundworld_is_built_and_loaded_where_text_is_ascii(tmp_path):
    code = (
        "import locale, sys\n"
        "from pathlib import Path\n"
        "from aai.soundworld.build.text import build_tokenizer\n"
        "from aai.soundworld.loaders import load_picture_model\n"
        "from aai.soundworld.text import load_tokenizer\n"
        "folder = Path(sys.argv[1])\n"
        "build_tokenizer(folder)\n"
        "load_tokenizer(folder)\n"
        "load_picture_model()\n"
        "print(locale.getpreferredencoding(False))\n"
    )
    assert in_ascii(code, str(tmp_path)).split()[-1] in ("ANSI_X3.4-1968", "US-ASCII", "cp1252")
    own = (ROOT / "aai" / "soundworld" / "weights" / "tokenizer" / "vocab.json").read_bytes()
    assert (tmp_path / "vocab.json").read_bytes() == own


def test_hear_prints_where_the_console_has_no_such_letter(tmp_path):
    """A pipe of cp1252 cannot hold every file's name: it gets what it can, and no traceback."""
    sound = ROOT / "example_workflows" / "input" / "thunder.wav"
    named = tmp_path / "雨.wav"
    named.write_bytes(sound.read_bytes())
    command = [sys.executable, "-m", "aai", "hear", str(named)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, encoding="cp1252", env=environment)
    assert done.returncode == 0, done.stderr
    assert "\\u96e8.wav" in done.stdout and "thunder" in done.stdout
