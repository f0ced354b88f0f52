"""The `aai` command on SoundWorld: the main path, and one sentence with exit code 2 for every bad input."""

import json
import os
import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aai import audio, cli
from aai import token as tokens
from aai.cli.inputs import device_of, load_model
from aai.errors import InputError
from aai.inject.invert import Trajectory
from aai.picture.diffusers import DiffusersPictureModel
from aai.soundworld.sounds import synthesize

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    audio.save(synthesize("rain", 0.8, seed=5), folder / "rain.wav")
    audio.save(synthesize("dog", 0.6, seed=5), folder / "dog.flac")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i, (mode, size) in enumerate((("RGB", (200, 90)), ("RGBA", (64, 64)), ("L", (31, 140)))):
        Image.new(mode, size, 60 * i).save(pictures / f"{i}.png")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def aai(folder, monkeypatch, capsys):
    """aai("hear", "rain.wav") -> exit code, stdout, stderr; run in `folder`."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def rain_token(folder):
    path = folder / "rain.safetensors"
    arguments = ["token", str(folder / "rain.wav"), "-o", str(path), "--train-steps", "3", "--json"]
    assert cli.main(arguments) == 0
    return path


def test_hear_says_words_and_loudness(aai):
    code, out, err = aai("hear", "rain.wav", "dog.flac", "--json")
    rows = json.loads(out)
    assert code == 0 and not err
    assert [row["file"] for row in rows] == ["rain.wav", "dog.flac"]
    assert all(set(row) == {"file", "lufs", "words"} and len(row["words"]) == 3 for row in rows)
    assert rows[0]["words"][0]["word"] == "rain" and rows[1]["words"][0]["word"] == "a dog"
    assert abs(rows[0]["lufs"] - audio.loudness(audio.load("rain.wav"))) < 0.01
    code, out, _ = aai("hear", "rain.wav", "--words", "1")
    assert code == 0 and out.startswith("rain.wav  (") and "rain " in out and out.count("%") == 1


def test_a_token_is_made_and_says_where_it_comes_from(aai, rain_token):
    made = tokens.load(rain_token)
    assert made.name == "rain" and made.f_a.shape == (192,)
    assert made.provenance["sound"] == "rain.wav" and "library" in made.provenance["pictures"]
    code, out, _ = aai(
        "token", "dog.flac", "--refs", "pictures", "-k", "3", "-o", "d.safetensors", "--train-steps", "2"
    )
    assert code == 0 and "<dog>" in out
    assert "1.png" in tokens.load("d.safetensors").provenance["pictures"]


def test_generate_draws_with_tokens_and_repeats_itself(aai, rain_token, folder):
    arguments = ("generate", "--token", "rain.safetensors", "--steps", "2", "--seed", "7", "--json")
    code, out, err = aai(*arguments, "--prompt", "a city under <rain>", "--count", "2", "-o", "city.png")
    assert code == 0 and not err
    report = json.loads(out)
    assert [p["seed"] for p in report["pictures"]] == [7, 8] and report["tokens"] == ["rain"]
    with Image.open(folder / "city_7.png") as first:
        assert first.size == (128, 128)
        first = np.asarray(first)
    code, out, _ = aai(*arguments, "--prompt", "a city under <rain>", "-o", "again.png")
    with Image.open(folder / "again.png") as again:
        # A seed gives its picture alone or among others, up to the rounding of another batch size.
        assert np.abs(np.asarray(again).astype(int) - first).max() <= 2
    code, _, err = aai(*arguments[:-1], "-o", "a.png", "--width", "64", "--height", "96")
    assert code == 0
    with Image.open(folder / "a.png") as small:
        assert small.size == (64, 96)


def _wav(path, samples: np.ndarray, rate: int = 16000) -> None:
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
    _wav(folder / "unusual.wav", noise, rate)
    code, out, err = aai("hear", "unusual.wav", "--json")
    assert code == 0, err
    assert len(json.loads(out)[0]["words"]) == 3


@pytest.mark.parametrize("cut", [("--start", "nan"), ("--start", "inf"), ("--length", "inf")], ids=" ".join)
def test_a_cut_that_is_no_number_gets_one_sentence(aai, cut):
    code, out, err = aai("hear", "rain.wav", *cut)
    assert code == 2 and not out and "rain.wav' cannot be cut" in err and err.count("\n") == 1


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


def test_a_token_replaces_its_like_and_others_when_forced(aai, folder):
    save_file({"<mine>": torch.ones(1, 768)}, folder / "someones.safetensors")
    said = ("token", "rain.wav", "--train-steps", "1", "-o", "someones.safetensors")
    code, _, err = aai(*said)
    assert code == 2 and "--force" in err
    assert aai(*said, "--force")[0] == 0 and aai(*said)[0] == 0
    assert tokens.load(folder / "someones.safetensors").name == "rain"


@pytest.mark.parametrize(
    ("ending", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")]
)
def test_a_pictures_ending_is_its_format(aai, folder, ending, kind):
    said = ("generate", "--prompt", "a city", "--steps", "1", "-o", f"city.{ending}")
    for _ in range(2):
        code, _, err = aai(*said)
        assert code == 0, err
    with Image.open(folder / f"city.{ending}") as drawn:
        assert drawn.format == kind and drawn.size == (128, 128)
    Image.new("RGB", (8, 8)).save(folder / f"city.{ending}")
    code, _, err = aai(*said)
    assert code == 2 and "was not written by aai" in err
    with Image.open(folder / f"city.{ending}") as kept:
        assert kept.size == (8, 8)
    assert aai(*said, "--force")[0] == 0


@pytest.mark.parametrize(
    ("name", "says"), [("city.gif", ".png or .jpg"), ("city", ".png or"), ("pictures", "folder")]
)
@pytest.mark.parametrize(
    "command", [("generate",), ("edit", "--source", "a city", "--edited", "a *")], ids=" ".join
)
def test_other_endings_are_no_pictures(aai, command, name, says):
    code, out, err = aai(*command, "-o", name)
    assert code == 2 and not out and says in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["thunder (1)", "rock & roll's, [live]", "x" * 200, "雷 ⛈️"])
def test_any_files_name_can_name_its_token(aai, folder, name):
    shutil.copy(folder / "rain.wav", folder / f"{name}.wav")
    code, out, err = aai("token", f"{name}.wav", "-o", "named.safetensors", "--train-steps", "1")
    assert code == 0, err
    assert tokens.load(folder / "named.safetensors").provenance["sound"] == f"{name}.wav"


def _bad_sounds(folder):
    (folder / "zero.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes((folder / "rain.wav").read_bytes()[:30])
    (folder / "text.wav").write_text("no sound at all " * 99, encoding="utf-8")
    _wav(folder / "silent.wav", np.zeros((16000, 1)))
    _wav(folder / "short.wav", np.full((800, 1), 0.5))
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
    _bad_sounds(folder)
    arguments = (name,) if command == "hear" else (name, "-o", "bad.safetensors")
    code, out, err = aai(command, *arguments)
    assert code == 2 and not out
    assert says in err and name in err and err.count("\n") == 1
    assert not (folder / "bad.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("token", "rain.wav", "--refs", "nowhere", "-o", "x.safetensors"), "nowhere"),
        (("token", "rain.wav", "--refs", "empty", "-o", "x.safetensors"), "empty"),
        (("token", "rain.wav", "-o", "rain.wav/x.safetensors"), "x.safetensors"),
        (("token", "rain.wav", "--name", "<b>", "-o", "x.safetensors"), "cannot name"),
        (("token", "rain.wav", "--encoder", "rain.wav", "-o", "x.safetensors"), "rain.wav"),
        (("token", "rain.wav", "--model", "empty", "-o", "x.safetensors"), "empty"),
        (("study", "compare", "--model", "empty", "-o", "y"), "--model is for a study of your own"),
        (("study", "compare", "--wav2clip", "rain.wav", "-o", "y"), "give --clip as well"),
        (("generate", "--token", "nowhere.safetensors", "-o", "x.png"), "nowhere.safetensors"),
        (("generate", "--token", "rain.wav", "-o", "x.png"), "rain.wav"),
        (("generate", "--token", "wide.safetensors", "-o", "x.png"), "768"),
        (("generate", "--token", "rain.safetensors", "--prompt", "a <fog>", "-o", "x.png"), "<fog>"),
        (
            ("generate", "--token", "rain.safetensors", "--prompt", "a " * 90 + "*", "-o", "x.png"),
            "too long",
        ),
        (("generate", "--token", "rain.safetensors", "-o", "nowhere/x.png"), "nowhere"),
        (
            (
                "generate",
                "--token",
                "rain.safetensors",
                "--prompt",
                "a city",
                "--scale",
                "0.5",
                "-o",
                "x.png",
            ),
            "'a city' names no sound token: write * or <name>",
        ),
        (("generate", "--token", "rain.safetensors", "--prompt", "a city", "-o", "x.png"), "no sound token"),
        (
            ("generate", "--prompt", "a *", "--scale", "0.5", "-o", "x.png"),
            "give one with --token or --sound",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_other_bad_input_gets_one_sentence(aai, folder, rain_token, arguments, says):
    tokens.SoundToken("wide", {"clip_l": torch.randn(1, 768)}).save(folder / "wide.safetensors")
    code, out, err = aai(*arguments, *(("--train-steps", "1") if arguments[0] == "token" else ()))
    assert code == 2 and not out
    assert says in err and err.startswith("aai: ") and err.count("\n") == 1
    assert not list(folder.glob("x.*")) and not list(folder.rglob("*.part"))


def test_edit_draws_the_source_and_its_edits(aai, rain_token, folder):
    asked = ("edit", "--token", str(rain_token), "--source", "a city", "--steps", "3", "--json")
    code, out, _ = aai(*asked, "--edited", "a city under *", "--scale", "0, 1", "-o", "city.png")
    rows = json.loads(out)["pictures"]
    assert code == 0
    assert [row["file"] for row in rows] == ["city_source.png", "city_1.png", "city_2.png"]
    assert [row["scale"] for row in rows] == [None, 0, 1] and rows[2]["prompt"] == "a city under *"
    source, silent, loud = (np.array(Image.open(folder / row["file"])).astype(int) for row in rows)
    assert abs(silent - source).max() <= 2 < abs(loud - source).max()
    aai("generate", "--prompt", "a city", "--steps", "3", "-o", "alone.png", "--seed", "0")
    assert abs(np.array(Image.open(folder / "alone.png")).astype(int) - source).max() <= 2
    code, out, _ = aai(*asked, "--edited", "* city", "--blend", "*", "--scale", "loudness", "-o", "b.png",
                       "--blend-changes", "--blend-start", "0.5", "--blend-threshold", "0.6",
                       "--edited-pooled")  # fmt: skip
    assert code == 0 and 0 <= json.loads(out)["pictures"][1]["scale"] <= 2


def test_a_picture_is_inverted_once_and_edited(aai, rain_token, folder):
    Image.effect_noise((128, 128), 60).resize((64, 96)).save(folder / "mine.png")
    code, _, _ = aai(
        "invert", "mine.png", "--prompt", "a city", "-o", "way.safetensors", "--invert-steps", "4"
    )
    assert code == 0
    asked = ("edit", "--token", str(rain_token), "--edited", "a city under *", "--steps", "3", "-o", "m.png")
    code, out, err = aai(*asked, "--trajectory", "way.safetensors", "--json")
    assert code == 0, err
    assert json.loads(out)["source"] == "a city"
    kept = np.array(Image.open(folder / "m_source.png")).astype(int)
    assert kept.shape == (96, 64, 3)
    aai(*asked, "--picture", "mine.png", "--source", "a city", "--invert-steps", "4")
    assert abs(np.array(Image.open(folder / "m_source.png")).astype(int) - kept).max() <= 1


def test_every_sound_has_its_own_loudness(aai, rain_token, folder, monkeypatch):
    rain = tokens.load(rain_token)
    for name, loudness in (("loud", -23.0), ("soft", -33.0), ("deaf", None)):
        replace(rain, name=name, loudness=loudness).save(folder / f"{name}.safetensors")
    asked = []

    def sample(self, *_, edit, **__):
        asked.append([dict(scales) for scales in edit.scales])
        raise InputError("enough")

    monkeypatch.setattr(DiffusersPictureModel, "sample", sample)
    held = [part for name in ("loud", "soft", "deaf") for part in ("--token", f"{name}.safetensors")]
    said = (*held, "--scale", "loudness", "-o", "l.png")
    aai("generate", *said, "--prompt", "<loud> and <soft>")
    aai("edit", *said, "--source", "a city", "--edited", "a city under <soft>", "--edited", "a <loud> city")
    assert asked == [[{"loud": 1.0, "soft": 0.5}], [{"soft": 0.5}, {"loud": 1.0}]]
    code, _, err = aai("generate", *said, "--prompt", "<loud> and <deaf>")
    assert code == 2 and "<deaf> does not know its sound's loudness" in err and len(asked) == 2


def test_null_text_of_a_file_is_sampled_as_it_was_made(aai, rain_token, folder, monkeypatch):
    trajectory = Trajectory(
        torch.tensor([2.0, 1.0, 0.0]), torch.zeros(3, 32, 16, 16), torch.zeros(2, 77, 192)
    )
    replace(trajectory, guidance=7.5).save(folder / "null.safetensors", "a city")
    asked = []

    def sample(self, *_, steps, guidance, **__):
        asked.append((steps, guidance))
        raise InputError("enough")

    monkeypatch.setattr(DiffusersPictureModel, "sample", sample)
    said = ("edit", "--token", str(rain_token), "--edited", "a city under *", "-o", "n.png")
    for more in ((), ("--steps", "5", "--guidance", "3")):
        aai(*said, "--trajectory", "null.safetensors", *more)
    trajectory.save(folder / "null.safetensors", "a city")
    aai(*said, "--trajectory", "null.safetensors")
    aai(*said, "--source", "a city")
    assert asked == [(2, 7.5), (5, 3.0), (2, 5.0), (30, 5.0)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--edited", "a city", "--source", "a city"), "names no sound token"),
        (("--edited", "a *"), "no source prompt"),
        (("--edited", "a *", "--source", "a city", "--scale", "5"), "drowns"),
        (("--edited", "a *", "--source", "a city", "--cross-until", "1.5"), "cross window"),
        (("--edited", "a *", "--source", "a city", "--blend", "sea"), "not in the prompt"),
        (("--edited", "a *", "--source", "a city", "--scale=-1"), "opposite"),
        (("--edited", "a *", "--source", "a city", "--self-until", "-0.1"), "self window"),
        (("--edited", "a *", "--source", "a city", "--blend", "*", "--blend-start", "3"), "no share"),
        (("--edited", "a *", "--source", "a city", "--mask", "rain.wav"), "cannot be read as a picture"),
        (("--edited", "rain " * 80 + "*", "--source", "a city"), "prompt is too long"),
        (("--edited", "a <dog>", "--source", "a city"), "no such sound token"),
        (("--edited", "a *", "--edited", "* a", "--source", "a", "--scale", "0,1,2"), "do not go with 2"),
        (("--edited", "a *", "--trajectory", "rain.wav"), "no inverted picture"),
        (("--edited", "a *", "--source", "a city", "--picture", "rain.wav"), "cannot be read as a picture"),
    ],
)
def test_bad_edits_get_one_sentence(aai, rain_token, arguments, says):
    code, out, err = aai("edit", "--token", str(rain_token), "-o", "e.png", *arguments)
    assert code == 2 and not out
    assert says in err and err.count("\n") == 1


def test_a_resumed_training_may_end_at_once(aai, folder):
    arguments = ("token", "rain.wav", "-o", "r.safetensors", "--validate", "2", "--patience", "1", "--json")
    assert aai(*arguments, "--train-steps", "2")[0] == 0
    made = tokens.load(folder / "r.safetensors")
    # As where it was stopped between its last step and the measurement; and nothing is better than 0.
    replace(made, measured={"best": 0.0, "step": 0, "waited": 0}).save(folder / "r.safetensors")
    code, out, err = aai(*arguments, "--train-steps", "4", "--resume", "r.safetensors")
    report = json.loads(out)
    assert code == 0, err
    assert report["steps"] == 2 and report["loss"] is None and "Stopped at step 2" in report["note"]


@pytest.mark.parametrize("device", ["cuda:63", "meta", "toaster"])
@pytest.mark.parametrize(
    "command",
    [
        ("token", "rain.wav", "-o", "y.safetensors"),
        ("generate", "-o", "y.png"),
        ("edit", "--source", "a city", "--edited", "a *", "-o", "y.png"),
        ("invert", "mine.png", "--prompt", "a city", "-o", "y.safetensors"),
        ("study", "adapter", "--events", "rain", "-o", "y"),
        ("study", "adapter", "--sounds", "pictures", "--library", "pictures", "-o", "y"),
    ],
    ids=lambda value: " ".join(value[:3]),
)
def test_a_device_that_is_not_here_gets_one_sentence(aai, command, device):
    code, out, err = aai(*command, "--device", device)
    assert code == 2 and not out
    assert f"no device '{device}'" in err and err.count("\n") == 1


def test_the_device_that_is_named_draws(aai, folder):
    code, _, err = aai("generate", "--prompt", "a city", "--steps", "1", "-o", "z.png", "--device", "cpu")
    assert code == 0, err
    with Image.open(folder / "z.png") as drawn:
        assert drawn.size == (128, 128)


def test_a_picture_model_is_moved_whole(monkeypatch):
    to, moved = torch.nn.Module.to, []
    monkeypatch.setattr(torch.nn.Module, "to", lambda m, *place: (moved.append((m, place)), to(m, *place))[1])
    model = load_model("soundworld", "cpu")
    there = {module for module, place in moved if place[0] == torch.device("cpu")}
    assert {model.unet, model.vae, *(tower.model for tower in model._text_encoders.values())} <= there


def test_a_picture_model_is_in_float16_on_a_gpu_alone(monkeypatch):
    def found(*given):
        model = load_model("soundworld", None, *given)
        towers = {next(t.model.parameters()).dtype for t in model._text_encoders.values()}
        assert towers == {model.dtype} and next(model.vae.parameters()).dtype == torch.float32
        return model.dtype

    assert found(None) == found() == torch.float32 and found("float16") == torch.float16
    monkeypatch.setattr("aai.cli.inputs.device_of", lambda name: torch.device("meta"))
    assert found(None) == torch.float16 and found("float32") == found() == torch.float32


def test_half_precision_draws_nearly_the_same(aai, rain_token, folder):
    Image.effect_noise((64, 64), 60).save(folder / "half.png")
    for dtype in ("float16", "float32"):
        code, _, err = aai(
            "edit", "--token", str(rain_token), "--picture", "half.png", "--source", "a city",
            "--edited", "a city *", "--scale", "0.5", "--blend", "*", "--blend-changes",
            "--invert-steps", "2", "--steps", "2", "--dtype", dtype, "-o", f"{dtype}.png",
        )  # fmt: skip
        assert code == 0, err
    for place in ("", "_source"):
        half, whole = (
            np.asarray(Image.open(folder / f"{d}{place}.png"), int) for d in ("float16", "float32")
        )
        assert 0 < abs(half - whole).max() and abs(half - whole).mean() < 3


def test_without_a_name_the_best_device_is_taken(monkeypatch):
    monkeypatch.delattr(torch, "accelerator", raising=False)
    for there, found in (((True, True), "cuda"), ((False, True), "mps"), ((False, False), "cpu")):
        for backend, is_there in zip((torch.cuda, torch.backends.mps), there):
            monkeypatch.setattr(backend, "is_available", lambda is_there=is_there: is_there)
        assert device_of(None) == torch.device(found)
    newer = SimpleNamespace(is_available=lambda: True, current_accelerator=lambda: torch.device("xpu"))
    monkeypatch.setattr(torch, "accelerator", newer, raising=False)
    assert device_of(None) == torch.device("xpu")


def test_help_and_wrong_options(capsys):
    for arguments in (["--help"], *([c, "--help"] for c in ("hear", "token", "generate", "demo"))):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0 and "usage: aai" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["hear", "--words", "0", "x.wav"])
    assert stop.value.code == 2


def test_the_module_runs_as_a_command(folder):
    arguments = [sys.executable, "-m", "aai", "hear", str(folder / "nowhere.wav")]
    done = subprocess.run(arguments, capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere.wav" in done.stderr
