"""Where nothing can be kept, and what is not ours to replace, is said before the work."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aai import token as tokens
from aai.adapt import universal_file
from aai.cli.outputs import check_json_file
from aai.errors import InputError


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pictures", "'pictures' is a folder"),
        (".", "is a folder"),
        ("", "is a folder"),
        ("/", "is a folder"),
        ("/dev/null", "is a device"),
        ("nowhere/x", "no folder 'nowhere'"),
        ("x" * 300, "can name no file"),
        ("x.pt", "let it end in .safetensors"),
        ("x", "let it end in .safetensors"),
        ("mine.safetensors", "'mine.safetensors' was not written by aai"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("token", "rain.wav"),
        ("rebind", "nowhere.safetensors", "rain.wav"),
        ("invert", "nowhere.png", "--prompt", "a city"),
        ("align", "convert", "nowhere.pth"),
        ("align", "train", "nowhere"),
        ("library", "index", "nowhere"),
    ],
    ids=lambda value: " ".join(value),
)
def test_where_nothing_can_be_kept_is_said_before_the_work(aai, folder, command, name, says):
    save_file({"<mine>": torch.ones(1, 768)}, folder / "mine.safetensors")
    if command[0] == "library" and name == "":
        return
    before = (folder / "mine.safetensors").read_bytes()
    code, out, err = aai(*command, "-o", name)
    assert code == 2 and not out and says in err and err.count("\n") == 1, err
    assert (folder / "mine.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "says"), [("city.gif", ".png or .jpg"), ("city", ".png or"), ("pictures", "folder")]
)
@pytest.mark.parametrize(
    "command", [("generate",), ("edit", "--source", "a city", "--edited", "a *")], ids=" ".join
)
def test_other_endings_are_no_pictures(aai, command, name, says):
    code, out, err = aai(*command, "-o", name)
    assert code == 2 and not out and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rain.wav", "'rain.wav' is a file"),
        ("rain.wav/x", "'rain.wav' is a file"),
        ("x" * 300, "can name no folder"),
    ],
    ids=("file", "in a file", "long"),
)
@pytest.mark.parametrize(
    "command",
    [
        ("study", "references"),
        ("study", "adapter"),
        ("study", "compare"),
        ("demo", "--engine", "diffusers"),
        ("data", "prepare", "nowhere"),
    ],
    ids=" ".join,
)
def test_a_folder_that_cannot_be_made_is_said_before_the_work(aai, command, name, says):
    code, out, err = aai(*command, "-o", name)
    assert code == 2 and not out and says in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("name", "says"),
    [("pictures", "'pictures' is a folder"), ("x.txt", "let it end in .json"), ("mine.json", "--force")],
)
@pytest.mark.parametrize("table", ["retrieval", "zeroshot", "audiotext"])
def test_where_no_table_can_be_kept_is_said_before_the_measuring(aai, folder, table, name, says):
    (folder / "mine.json").write_text('{"data": 1}', encoding="utf-8")
    code, out, err = aai("eval", table, "nowhere", "-o", name)
    assert code == 2 and not out and says in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("name", "says"),
    [("pictures", "'pictures' is a folder"), ("x.txt", "let it end in .html"), ("mine.html", "--force")],
)
def test_where_no_page_can_be_kept_is_said_before_it_is_made(aai, folder, name, says):
    (folder / "mine.html").write_text("<p>mine</p>", encoding="utf-8")
    code, out, err = aai("study", "people", "nowhere", "-o", name)
    assert code == 2 and not out and says in err and err.count("\n") == 1, err


def test_a_result_is_replaced_by_its_like(folder):
    path = folder / "result.json"
    path.write_text('{"data": "x", "encoders": [], "paper": {}}', encoding="utf-8")
    check_json_file(path, "a result", {"data", "encoders", "paper"}, force=False)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="not written by aai"):
        check_json_file(path, "a result", {"data"}, force=False)
    check_json_file(path, "a result", {"data"}, force=True)


@pytest.fixture
def full(monkeypatch, tmp_path):
    """full(path, ...): from now on the disk takes no file of these names, nor any in these folders; the
    temporary folder is tmp_path."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    move = os.replace

    def fill(*places: Path) -> None:
        closed = {place.resolve() for place in places}

        def replace(source, target):
            if closed & {Path(target).resolve(), Path(target).resolve().parent}:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            move(source, target)

        monkeypatch.setattr(os, "replace", replace)

    return fill


def test_a_trained_token_is_kept_beside_a_name_that_takes_none(aai, folder, full, tmp_path):
    arguments = ("token", "rain.wav", "--train-steps", "1", "-o", "full.safetensors")
    (folder / "full-step1.safetensors").write_bytes(b"another's")
    full(folder / "full.safetensors")
    code, out, err = aai(*arguments)
    assert code == 2 and not out and err.count("\n") == 1
    assert "No space left" in err and "trained is 'full-step1-2.safetensors'" in err
    assert tokens.load(folder / "full-step1-2.safetensors").provenance["steps"] == "1"
    assert (folder / "full-step1.safetensors").read_bytes() == b"another's"
    full(folder)
    code, _, err = aai(*arguments)
    assert code == 2 and f"trained is '{tmp_path / 'full-step1.safetensors'}'" in err
    assert tokens.load(tmp_path / "full-step1.safetensors").name == "rain"
    full(folder, tmp_path)
    code, _, err = aai(*arguments)
    assert code == 2 and "No space left" in err and "trained is" not in err


def test_a_trained_adapter_is_kept_where_its_state_is_not(aai, folder, full):
    for name in ("rain", "a_dog"):
        (folder / "few" / name).mkdir(parents=True)
        shutil.copy(folder / "rain.wav", folder / "few" / name)
    arguments = ("adapt", "train", "few", "--steps", "1", "--batch", "2", "-o", "few.safetensors")
    full(folder / "few.training" / "state.safetensors")
    code, _, err = aai(*arguments)
    assert code == 2 and "No space left" in err
    assert universal_file.load(folder / "few.safetensors").steps == 1
    full(folder / "few.safetensors")
    code, _, err = aai(*arguments)
    assert code == 2 and "trained is 'few-step1.safetensors'" in err
    assert universal_file.load(folder / "few-step1.safetensors").steps == 1
