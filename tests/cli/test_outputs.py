"""Where nothing can be kept, and what is not ours to replace, is said before the work."""

import pytest
import torch
from safetensors.torch import save_file

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
