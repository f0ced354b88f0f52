"""`aai library`, `aai rebind` and `aai study` on SoundWorld."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from aai import audio, cli
from aai import token as tokens
from aai.soundworld.pictures import render
from aai.soundworld.sounds import synthesize
from aai.token import SoundToken, word_vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """rain1.wav, and pictures of rain (one of them rain1's own), a dog and fire."""
    folder = tmp_path_factory.mktemp("library")
    audio.save(synthesize("rain", 0.8, seed=5), folder / "rain1.wav")
    (folder / "photos" / "more").mkdir(parents=True)
    for name, event in (("rain1", "rain"), ("wet", "rain"), ("more/pet", "dog"), ("hot", "fire")):
        picture = render("city", event, 0.8, 3 if name == "wet" else 4)
        Image.fromarray(picture).save(folder / "photos" / f"{name}.png")
    return folder


@pytest.fixture
def aai(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


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
    shutil.copy(folder / "rain1.wav", folder / "rain.wav")
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


def test_rebind_keeps_the_adapter(aai, folder):
    f_a, adapter = torch.randn(192), torch.randn(1, 192) * 0.01
    vectors = {"clip_l": word_vectors(f_a, 0.4, adapter)}
    token = SoundToken("wet", vectors, f_a, {"clip_l": adapter}, {"clip_l": 0.4}, -20.0, {"sound": "old"})
    token.save(folder / "wet.safetensors")
    code, out, err = aai("rebind", "wet.safetensors", "rain1.wav", "-o", "new.safetensors", "--json")
    made = tokens.load(folder / "new.safetensors")
    assert code == 0 and not err and json.loads(out)["sound"] == "rain1.wav"
    torch.testing.assert_close(made.f_adapter["clip_l"], adapter)
    assert made.provenance["adapter_sound"] == "old" and made.provenance["sound"] == "rain1.wav"
    assert made.name == "wet" and made.cosine()["clip_l"] > 0.9
    code, _, err = aai("rebind", "rain1.wav", "rain1.wav", "-o", "x.safetensors")
    assert code == 2 and "rain1.wav" in err and not (folder / "x.safetensors").exists()


def test_a_comparison_and_its_page(aai, folder):
    arguments = (
        "--events",
        "rain",
        "--seeds",
        "1",
        "--steps",
        "1",
        "--pictures",
        "1",
        "--sampling-steps",
        "2",
    )
    code, out, err = aai("study", "compare", *arguments, "--batch", "1", "-o", "compare", "--json")
    report = json.loads(out)
    assert code == 0 and not err
    assert {"event", "strength off", "AIS (own encoder)"} <= {row["measure"] for row in report["figures"]}
    assert (folder / "compare" / "sheet.png").is_file() and (
        folder / "compare" / "sounds" / "rain.wav"
    ).is_file()
    code, out, _ = aai("study", "people", "compare", "-o", "p.html", "--json")
    assert code == 0 and json.loads(out)["questions"] == 1
    assert "data:audio/wav;base64," in (folder / "p.html").read_text(encoding="utf-8")
    code, _, err = aai("study", "people", "--tally", "rain1.wav", "-o", "p.html")
    assert code == 2 and "rain1.wav" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", "--events", "snow", "-o", "x"), "no event 'snow'"),
        (("compare", "--sounds", "photos", "-o", "x"), "--library"),
        (("people",), "nothing to ask about"),
        (("people", "photos"), "holds no study"),
    ],
)
def test_mistakes_in_studies_get_one_sentence(aai, arguments, says):
    code, out, err = aai("study", *arguments)
    assert code == 2 and not out and says in err and err.count("\n") == 1


def test_a_token_is_trained_on_what_is_called_like_its_sound(aai, folder):
    shutil.copy(folder / "rain1.wav", folder / "drops.wav")
    (folder / "meant").mkdir()
    shutil.copy(folder / "photos" / "rain1.png", folder / "meant" / "drops.png")
    shutil.copy(folder / "photos" / "hot.png", folder / "meant" / "hot.png")
    arguments = ("-k", "2", "--train-steps", "1", "--json")
    code, _, err = aai("token", "drops.wav", "--refs", "meant", "-o", "drops.safetensors", *arguments)
    used = tokens.load(folder / "drops.safetensors").provenance["pictures"]
    assert code == 0 and "left out" not in err
    assert used.startswith("drops.png ") and "hot.png" in used
    code, _, err = aai("token", "rain1.wav", "--refs", "photos", "-o", "numbered.safetensors", *arguments)
    assert code == 0 and "'rain1.png' is left out" in err
    assert "rain1.png" not in tokens.load(folder / "numbered.safetensors").provenance["pictures"]
