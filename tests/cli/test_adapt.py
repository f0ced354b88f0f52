"""`aai adapt`, and words made at once: `aai token --instant`, `aai generate --instant`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from aai import token as tokens
from aai.adapt import universal_file
from aai.audio import save
from aai.encoders import loaders
from aai.soundworld import dataset
from aai.soundworld.outside import synthesize_outside
from aai.soundworld.sounds import synthesize


@pytest.fixture(scope="module")
def data(folder):
    """Sounds with pictures, sounds alone, and both in one folder."""
    whole = dataset.write(folder / "data", each=1, seconds=1.0)
    for name in ("bare", "mixed"):
        for label in ("light_rain", "a_light_dog"):
            (folder / name / label).mkdir(parents=True)
            save(
                synthesize("rain" if "rain" in label else "dog", 0.4, 9, 1.0), folder / name / label / "1.wav"
            )
    picture = next(whole.glob("*/*.jpg"))
    (folder / "mixed" / "light_rain" / "1.jpg").write_bytes(picture.read_bytes())
    return whole


def test_an_adapter_is_trained_told_and_used(aai, data, folder):
    arguments = ("adapt", "train", "data", "-o", "own.safetensors", "--batch", "4")
    code, out, err = aai(*arguments, "--steps", "3", "--json")
    report = json.loads(out)
    assert code == 0, err
    assert report["steps"] == 3 and "20 sounds of 20 labels, with pictures" in report["data"]
    made = universal_file.load(folder / "own.safetensors")
    assert made.base == "SoundWorld's U-Net that reads clip_l of 192" and not made.training
    log = (folder / "own.training" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["loss"] for line in log] == made.losses
    # The same command with more steps goes on.
    assert aai(*arguments, "--steps", "5")[0] == 0
    longer = universal_file.load(folder / "own.safetensors")
    assert len(longer.losses) == 5 and longer.losses[:3] == made.losses
    code, out, _ = aai("adapt", "info", "own.safetensors")
    assert code == 0 and "picture model: SoundWorld's U-Net" in out and "steps: 5" in out
    assert json.loads(aai("adapt", "info", "own.safetensors", "--json")[1])["words"] == {"clip_l": 192}
    code, out, err = aai(
        "token", "rain.wav", "-o", "at_once.safetensors", "--instant", "--adapter", "own.safetensors"
    )
    assert code == 0 and "<rain>, at once" in out, err
    assert "own, 5 steps" in tokens.load(folder / "at_once.safetensors").provenance["adapter"]
    code, _, err = aai(*arguments, "--steps", "6", "--batch", "3")
    assert code == 2 and "begun with batch" in err
    state = folder / "own.training" / "state.safetensors"
    kept = state.read_bytes()
    code, _, err = aai(*arguments, "--steps", "6", "--template", "rain", "--restart")
    assert code == 2 and "has no *" in err and state.read_bytes() == kept
    assert aai(*arguments, "--steps", "1", "--rate", "0.5", "--restart", "--half")[0] == 0
    assert universal_file.load(folder / "own.safetensors").steps == 1


def test_a_finished_training_is_written_again(aai, data, folder):
    arguments = ("adapt", "train", "data", "-o", "again.safetensors", "--batch", "2", "--steps", "2")
    assert aai(*arguments, "--json")[0] == 0
    file = folder / "again.safetensors"
    whole, made = universal_file.load(file), file.read_bytes()
    code, _, err = aai(*arguments)
    assert code == 2 and "2 steps behind it already: ask for more than 2" in err
    file.unlink()
    code, out, err = aai(*arguments)
    assert code == 0 and "2 steps on data: 20 sounds" in out, err
    again = universal_file.load(file)
    assert all(map(torch.equal, again.g.state_dict().values(), whole.g.state_dict().values()))
    assert again.describe() == whole.describe() and again.settings == whole.settings
    assert again.losses == whole.losses and len(file.read_bytes()) == len(made)
    # As where the disk was full when a longer training ended.
    assert aai(*arguments[:-1], "3")[0] == 0
    longer = universal_file.load(file).losses
    file.write_bytes(made)
    assert aai(*arguments[:-1], "3")[0] == 0 and universal_file.load(file).losses == longer
    assert aai(*arguments[:-1], "3", "--half", "--licence", "CC0")[0] == 0
    half = universal_file.load(file)
    assert (
        len(file.read_bytes()) < 0.6 * len(made) and half.provenance == {"licence": "CC0"} and half.steps == 3
    )
    file.unlink()
    for more, says in ((("--batch", "3"), "begun with batch"), (("--size", "64"), "begun with other data")):
        code, _, err = aai(*arguments[:-1], "3", *more)
        assert code == 2 and says in err and not file.exists()


def test_sounds_without_any_pictures_teach_by_their_labels(aai, data):
    code, out, err = aai("adapt", "train", "bare", "-o", "bare.safetensors", "--steps", "3", "--batch", "2")
    assert code == 0 and "no pictures" in out and "by their labels alone" in out, err
    code, out, err = aai("adapt", "train", "mixed", "-o", "mixed.safetensors", "--steps", "3")
    assert code == 2 and not out and "sounds without pictures (the first is of 'a light dog')" in err


def test_two_processes_learn_what_one_learns(aai, data, folder):
    """As `accelerate launch` and `torchrun` start them."""
    arguments = ["adapt", "train", "data", "--batch", "4", "--steps", "2", "--device", "cpu", "-o"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    shared = {**os.environ, **meet, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "aai", *arguments, "two.safetensors"],
            cwd=folder,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert aai(*arguments, "one.safetensors")[0] == 0
    two, one = (universal_file.load(folder / f"{n}.safetensors") for n in ("two", "one"))
    torch.testing.assert_close(two.losses, one.losses, rtol=1e-4, atol=1e-5)
    for name, value in one.g.state_dict().items():
        torch.testing.assert_close(two.g.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    code, _, err = aai(*arguments[:-1], "--chunk", "-1", "-o", "x.safetensors")
    assert code == 2 and "chunk of -1" in err


def test_a_killed_training_goes_on(aai, data, folder):
    arguments = ["adapt", "train", "data", "--batch", "2", "--steps", "8", "--save-every", "2", "-o"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "aai", *arguments, "killed.safetensors"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    state, end = folder / "killed.training" / "state.safetensors", time.monotonic() + 120
    while not state.exists() and time.monotonic() < end and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    begun = universal_file.load(state)
    assert 2 <= begun.steps < 8 and begun.training
    assert aai(*arguments, "killed.safetensors")[0] == 0 == aai(*arguments, "straight.safetensors")[0]
    rest, straight = (universal_file.load(folder / f"{n}.safetensors") for n in ("killed", "straight"))
    assert rest.losses == straight.losses and rest.losses[: begun.steps] == begun.losses


def test_a_word_is_made_at_once_and_a_training_starts_from_it(aai, folder):
    code, out, err = aai("token", "rain.wav", "-o", "now.safetensors", "--instant", "--json")
    report = json.loads(out)
    assert code == 0, err
    assert report["steps"] == 0 and report["loss"] is None and report["note"] == ""
    made = tokens.load(folder / "now.safetensors")
    assert made.provenance["adapter"].startswith("SoundWorld, ") and made.provenance["sound"] == "rain.wav"
    assert made.f_adapter["clip_l"].norm() > 0
    code, out, err = aai("rebind", "now.safetensors", "dog.flac", "-o", "dogs.safetensors")
    assert code == 0, err
    arguments = ("token", "rain.wav", "-o", "more.safetensors", "--train-steps", "2")
    assert aai(*arguments, "--resume", "now.safetensors")[0] == 0
    more = tokens.load(folder / "more.safetensors")
    assert more.provenance["steps"] == "2" and more.provenance["adapter"] == made.provenance["adapter"]


def test_a_picture_is_drawn_at_once(aai, folder):
    arguments = ("generate", "--sound", "rain.wav", "--instant", "--steps", "2", "-o", "now.png")
    code, out, err = aai(*arguments, "--scale", "loudness", "--prompt", "a city under *")
    assert code == 0 and (folder / "now.png").exists(), err
    save(synthesize_outside("speech", 3), folder / "strange.wav")
    code, out, err = aai("generate", "--sound", "strange.wav", "--instant", "--steps", "1", "-o", "s.png")
    assert code == 0 and "does not know 'strange.wav'" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("token", "rain.wav", "-o", "x.safetensors", "--instant", "--rate", "1"),
            "--instant trains nothing",
        ),
        (
            ("token", "rain.wav", "-o", "x.safetensors", "--instant", "--resume", "now.safetensors"),
            "so --resume does nothing beside --instant",
        ),
        (("token", "rain.wav", "-o", "x.safetensors", "--adapter", "rain.wav"), "give --instant too"),
        (
            ("token", "rain.wav", "-o", "x.safetensors", "--instant", "--adapter", "rain.wav"),
            "'rain.wav' is no readable sound adapter",
        ),
        (
            ("token", "rain.wav", "-o", "x.safetensors", "--instant", "--adapter", "nowhere"),
            "There is no sound adapter 'nowhere'",
        ),
        (("generate", "--instant", "-o", "x.png"), "give --sound too"),
        (("adapt", "train", "nowhere", "-o", "x.safetensors"), "nowhere"),
        (("adapt", "train", "data", "-o", "rain.wav"), "no name of a sound adapter"),
        (("adapt", "train", "data", "-o", "x.safetensors", "--rate", "0"), "learning rate"),
        (("adapt", "train", "data", "-o", "x.safetensors", "--template", "rain"), "has no *"),
        (("adapt", "info", "rain.wav"), "'rain.wav' is no readable sound adapter"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_gets_one_sentence(aai, data, folder, arguments, says):
    code, out, err = aai(*arguments)
    assert code == 2 and not out
    assert says in err and err.startswith("aai: ") and err.count("\n") == 1
    assert not list(folder.glob("x.safetensors")) and not list(folder.rglob("*.part"))


def test_of_another_encoder_or_model_is_said_so(aai, folder, monkeypatch):
    from aai.soundworld.loaders import load_adapter, load_picture_model, load_sound_encoder

    model = load_picture_model()
    adapter = replace(load_adapter(model), encoder="beef", encoder_name="other ears")
    universal_file.save(adapter, folder / "deaf.safetensors")
    code, _, err = aai(
        "token", "rain.wav", "-o", "y.safetensors", "--instant", "--adapter", "deaf.safetensors"
    )
    assert code == 2 and "'other ears'" in err and err.count("\n") == 1
    model.family = ""
    monkeypatch.setattr("aai.cli.token.load_model", lambda *given: model)
    code, _, err = aai("token", "rain.wav", "-o", "y.safetensors", "--instant")
    assert code == 2 and "There is no sound adapter for this model" in err
    assert "aai adapt train" in err and "aai token" in err and err.count("\n") == 1
    # In half precision an encoder's file is another, and the encoder is not.
    loaders.save(load_sound_encoder(), folder / "half.safetensors")
    model.family = "SoundWorld's U-Net"
    code, _, err = aai(
        "token", "rain.wav", "-o", "y.safetensors", "--instant", "--encoder", "half.safetensors"
    )
    assert code == 0, err
