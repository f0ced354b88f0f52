"""`aai library`: pictures that a sound is like."""

import json
import os
import shutil
import sys

import pytest
from PIL import Image


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="a system whose names are Unicode")
def test_names_that_are_not_utf8_are_indexed_and_found(aai, folder):
    for sub in ("latin", "latin/more"):
        (folder / sub).mkdir()
    for name, to in (("wet", b"latin/caf\xe9.png"), ("hot", b"latin/more/\xe9t\xe9.png")):
        shutil.copy(folder / "photos" / f"{name}.png", os.fsencode(folder) + b"/" + to)
    os.rename(folder / "latin", os.fsencode(folder) + b"/latin\xe9")
    name = os.fsdecode(b"latin\xe9")
    shutil.copy(folder / "rain1.wav", os.fsencode(folder) + b"/rain\xe9.wav")
    code, out, err = aai("library", "index", name, "--json")
    assert code == 0 and not err and json.loads(out)["pictures"] == 2
    sound = os.fsdecode(b"rain\xe9.wav")
    code, out, _ = aai("library", "search", sound, name, "-k", "1", "-o", "latin.png", "--json")
    assert code == 0 and json.loads(out)["pictures"]
    (folder / "latin.png").unlink()
    code, out, err = aai("library", "search", os.fsdecode(b"gone\xe9.wav"), name, "-o", "gone.png")
    assert code == 2 and "gone" in err and "Traceback" not in err


def test_index_then_search(aai, folder):
    code, out, err = aai("library", "index", "photos", "--json")
    report = json.loads(out)
    assert code == 0 and not err and report["pictures"] == report["seen"] == 4 and not report["fast"]
    assert json.loads(aai("library", "index", "photos", "--json")[1])["seen"] == 0
    code, out, err = aai("library", "search", "rain1.wav", "photos", "-k", "3", "-o", "found.png", "--json")
    found = json.loads(out)["pictures"]
    # Its own frame is the nearest, and is left out.
    assert code == 0 and [p["name"] for p in found][0] == "wet.png" and len(found) == 3
    assert found[0]["score"] > found[1]["score"] and json.loads(out)["left_out"] == ["rain1.png"]
    assert err.startswith("'rain1.png' is left out as the sound's own clip 'rain1'") and err.count("\n") == 1
    with Image.open(folder / "found.png") as sheet:
        assert sheet.width > 3 * 192 and sheet.height > 192
    assert aai("library", "index", "photos", "-o", "chosen.safetensors")[0] == 0
    code, out, _ = aai("library", "search", "rain1.wav", "chosen.safetensors", "-k", "1")
    assert code == 0 and out.rstrip().endswith("photos/wet.png")


def test_a_picture_called_like_what_is_heard_is_used(aai, folder):
    (folder / "chosen").mkdir()
    shutil.copy(folder / "photos" / "rain1.png", folder / "chosen" / "rain.png")
    shutil.copy(folder / "photos" / "hot.png", folder / "chosen" / "hot.png")
    code, out, err = aai("library", "search", "rain.wav", "chosen", "-k", "1", "--json")
    report = json.loads(out)
    assert code == 0 and not err
    assert [p["name"] for p in report["pictures"]] == ["rain.png"] and report["left_out"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("index", "nowhere"), "nowhere"),
        (("index", "photos", "--clip", "photos"), "holds no CLIP model"),
        (("index", "photos", "-o", "none/x.safetensors"), "There is no folder 'none'"),
        (("search", "rain1.wav", "rain1.safetensors"), "There is no index"),
        (("search", "nowhere.wav", "photos"), "nowhere.wav"),
        (("search", "rain1.wav", "photos", "-o", "none/x.png"), "There is no folder 'none'"),
    ],
)
def test_mistakes_get_one_sentence(aai, arguments, says):
    code, out, err = aai("library", *arguments)
    assert code == 2 and not out and says in err and err.count("\n") == 1
